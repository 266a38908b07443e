"""Parameters, multiply-accumulates and milliseconds per module: tools/analyze_model.py."""

import argparse
import json

from icre.commands import arguments
from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.files import check_output, replaced


def parser() -> argparse.ArgumentParser:
    """A config and how its model is timed."""
    result = argparse.ArgumentParser(description="Parameters, MACs and milliseconds per module.")
    arguments.add_config_file(result)
    result.add_argument("--batch", type=int, default=8, help="images in a pass (8)")
    result.add_argument("--repeat", type=int, default=5, help="timed passes (5)")
    result.add_argument("--json", metavar="FILE", help="write the rows there too")
    arguments.add_options(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Build the config's model without pretrained weights, and print its table."""
    if args.batch < 1 or args.repeat < 1:
        raise UserError("--batch and --repeat must be at least 1")
    from dataclasses import asdict

    import torch

    from icre.config import load_config
    from icre.inference.cost import analyze, some_batch, table
    from icre.modeling.build import build_model
    from icre.utils.device import resolve_device

    check_output(args.json)
    cfg = load_config(args.config_file, [*args.opts, "MODEL.BACKBONE.PRETRAIN", "False"])
    device, size = resolve_device(cfg.MODEL.DEVICE), cfg.INPUT.SIZE_TEST
    model = build_model(cfg, device).eval()
    parts = analyze(model, lambda: some_batch(args.batch, size, device), args.repeat)
    print(
        f"{args.config_file}: {size[0]}x{size[1]}, batches of {args.batch}, {device}, "
        f"{torch.get_num_threads()} threads, classifier of {cfg.MODEL.HEADS.NUM_CLASSES}"
    )
    print(table(parts))
    if args.json:
        with replaced(args.json) as file:
            file.write_text(json.dumps([asdict(part) for part in parts], indent=2) + "\n")
