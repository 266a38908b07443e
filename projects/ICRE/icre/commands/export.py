"""Write a model as ONNX or TorchScript (8-bit RGB in, unit vectors out), or as a checkpoint."""

import argparse
from pathlib import Path

from icre.commands import arguments
from icre.utils import cli

CHECKPOINT = "checkpoint"


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument(
        "--weights",
        required=True,
        metavar="RUN_OR_FILE",
        help="a finished run's folder, or a checkpoint",
    )
    result.add_argument(
        "--config-file", metavar="FILE", help="default: the config that the checkpoint carries"
    )
    result.add_argument("--out", required=True, type=Path, metavar="DIR")
    result.add_argument(
        "--format",
        default="onnx",
        metavar="NAME",
        help="onnx, torchscript, or checkpoint: what icre.load needs, in half precision (onnx)",
    )
    result.add_argument(
        "--modality",
        metavar="NAME",
        help="visible, infrared or both (both): one file for each modality",
    )
    result.add_argument(
        "--single",
        action="store_true",
        help="one file that takes each image's modality as a second input",
    )
    arguments.add_trust(result)
    arguments.add_options(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Export, and print each file with its size and its difference from PyTorch."""
    from icre.export.write import BATCHES, check_request, export_all
    from icre.inference.run import open_model

    if args.format == CHECKPOINT:
        _release(args)
        return
    request = args.out, args.format, args.modality, args.single
    check_request(*request)
    options = [*args.opts, "MODEL.DEVICE", "cpu"]
    opened = open_model(args.weights, *options, config_file=args.config_file)
    origin = {"weights_sha256": opened.sha256, "regdb_split": str(opened.regdb_split or "")}
    for path, difference in export_all(opened.model, opened.cfg, *request, origin):
        print(
            f"{path}: {path.stat().st_size / 1e6:.1f} MB, differs from PyTorch by at most "
            f"{difference:.1e} (batches of {', '.join(map(str, BATCHES))})"
        )


def _release(args: argparse.Namespace) -> None:
    from icre.inference.run import find_model
    from icre.runs.release import release
    from icre.utils.errors import UserError

    for option, given in (
        ("--modality", args.modality),
        ("--single", args.single),
        ("--config-file", args.config_file),
        ("KEY VALUE", args.opts),
    ):
        if given:
            raise UserError(f"{option} does not go with --format {CHECKPOINT}: leave it out")
    _, weights = find_model(args.weights)
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "model.pth"
    if path.exists() and path.samefile(weights):
        raise UserError(f"--out {args.out}: {path} is the checkpoint itself, name another folder")
    release(weights, path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, float16")
