"""Models that leave the lab: tools/export.py writes ONNX and TorchScript files that were checked."""

import argparse
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import icre.compat

from fastreid.config import CfgNode

import icre.engine  # noqa: F401
from icre import __version__
from icre.export.formats import FORMATS, Runner
from icre.export.graph import Deployed, is_two_stream
from icre.inference.embedder import Embedder
from icre.inference.run import open_model
from icre.modality import INFRARED, NAMES, VISIBLE
from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.files import replaced

TOLERANCE = 1e-4  # of any component of a unit vector
BATCHES = (1, 7)  # sizes that a file is checked with
MODALITIES = {"visible": ("visible",), "infrared": ("infrared",), "both": NAMES}


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Write a model as ONNX or TorchScript: 8-bit RGB images in, unit vectors out."
    )
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
        "--format", default="onnx", metavar="NAME", help=f"{' or '.join(FORMATS)} (onnx)"
    )
    result.add_argument(
        "--modality", metavar="NAME", help=f"{', '.join(MODALITIES)} (default): one file for each"
    )
    result.add_argument(
        "--single",
        action="store_true",
        help="one file that takes each image's modality as a second input",
    )
    result.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    for option, value, known in (
        ("--format", args.format, FORMATS),
        ("--modality", args.modality or "both", MODALITIES),
    ):
        if value not in known:
            raise UserError(f"{option} {value}: unknown; known: {', '.join(known)}")
    if args.single and args.modality not in (None, "both"):
        raise UserError(f"--single takes every modality: leave out --modality {args.modality}")
    FORMATS[args.format].require()
    _require_folder(args.out)
    options = [*args.opts, "MODEL.DEVICE", "cpu"]
    embedder = open_model(args.weights, *options, config_file=args.config_file)
    two_stream = is_two_stream(embedder.model)
    if (args.modality or args.single) and not two_stream:
        raise UserError(
            f"{embedder.cfg.MODEL.META_ARCHITECTURE} has one stem for every modality: "
            "leave out --modality and --single"
        )
    kept = MODALITIES[args.modality or "both"] if two_stream and not args.single else (None,)
    for modality in kept:
        path, difference = export(embedder, args.out, args.format, modality)
        print(
            f"{path}: {path.stat().st_size / 1e6:.1f} MB, differs from PyTorch by at most "
            f"{difference:.1e} (batches of {', '.join(map(str, BATCHES))})"
        )


def export(
    embedder: Embedder, folder: Path, format_name: str = "onnx", modality: str | None = None
) -> tuple[Path, float]:
    """Write one file, run it, compare it with PyTorch, and keep it only if they agree.

    Args:
        embedder: the model, on the CPU.
        folder: where `<modality>.onnx` or `model.onnx` (`.pt` for TorchScript) is written.
        format_name: key of FORMATS.
        modality: whose stem to keep; None: both, chosen by a second input `modality` (B,) int64; a
            model that knows no modality takes None and has no such input.

    Returns:
        The file, and the greatest difference of any component of the unit vectors.

    Raises:
        UserError: the file differs by more than TOLERANCE, or cannot be written.
    """
    chosen, cfg = FORMATS[format_name], embedder.cfg
    model, routed = embedder.model.eval(), is_two_stream(embedder.model) and modality is None
    path = folder / f"{modality or 'model'}{chosen.suffix}"
    example = _images(cfg, 2), torch.tensor([VISIBLE, INFRARED])
    graph = Deployed(model, modality, cfg.TEST.FLIP.ENABLED)
    with replaced(path) as temporary, _quiet(), torch.no_grad():
        chosen.write(graph, example[: 1 + routed], temporary, metadata(embedder, modality))
        run, _ = chosen.read(temporary)
        difference = compare(embedder, run, modality)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{path} was not written: it differs from PyTorch by {difference:.1e}, "
                f"more than {TOLERANCE:g}"
            )
    return path, difference


def metadata(embedder: Embedder, modality: str | None) -> dict[str, str]:
    """What a program must know to use the file, as texts; see docs/export.md."""
    height, width = _image_size(embedder.cfg)
    routed = "input" if is_two_stream(embedder.model) else "none"
    return {
        "height": str(height),
        "width": str(width),
        "channels": "RGB",
        "layout": "NHWC uint8",
        "resize": "bicubic",
        "modality": modality or routed,
        "flip": str(embedder.cfg.TEST.FLIP.ENABLED),
        "weights_sha256": embedder.stamp.sha256,
        "regdb_split": str(embedder.checkpoint.get("regdb_split") or ""),
        "config": embedder.stamp.config,
        "icre": __version__,
        "torch": torch.__version__,
    }


def compare(embedder: Embedder, run: Runner, modality: str | None) -> float:
    """Greatest difference between a file's features and the model's own, over BATCHES.

    Modalities alternate where the file takes either.
    """
    routed, worst = is_two_stream(embedder.model) and modality is None, 0.0
    for size in BATCHES:
        images, modalities = _images(embedder.cfg, size), torch.arange(size) % len(NAMES)
        if modality:
            modalities = torch.full((size,), NAMES.index(modality))
        inputs = images.numpy(), modalities.numpy()
        expected = embedder.features_of([{"images": images, "modalities": modalities}])
        worst = float(np.maximum(worst, np.abs(run(*inputs[: 1 + routed]) - expected).max()))
    return worst


def _images(cfg: CfgNode, count: int) -> Tensor:
    """(count, H, W, 3) uint8: blurred noise, whose features differ as those of photographs do."""
    generator = torch.Generator().manual_seed(count)
    coarse = torch.rand(count, 3, 8, 4, generator=generator)
    images = nn.functional.interpolate(coarse, _image_size(cfg), mode="bilinear")
    return (255 * images).byte().permute(0, 2, 3, 1).contiguous()


def _image_size(cfg: CfgNode) -> tuple[int, int]:
    if len(cfg.INPUT.SIZE_TEST) != 2 or cfg.INPUT.CROP.ENABLED:
        raise UserError(
            "INPUT.SIZE_TEST must be [height, width] and INPUT.CROP.ENABLED False: a "
            "file takes images that were resized to one size, without a crop"
        )
    return tuple(cfg.INPUT.SIZE_TEST)


def _require_folder(folder: Path) -> None:
    """Find out before the model is built whether `folder` can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error}") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {folder}: no permission")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' notes to developers (deprecations, tracing of shapes) off the screen."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
