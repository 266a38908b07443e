"""Convert a public code's checkpoint into one of ours, for every command that takes --weights."""

import argparse
from pathlib import Path

from icre.commands import arguments
from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.files import check_output


def parser() -> argparse.ArgumentParser:
    """Whose checkpoint, and where to."""
    result = argparse.ArgumentParser(
        description=f"{__doc__} It carries its config: network, image size, test feature, flip."
    )
    arguments.add_source(result, required=True)
    result.add_argument("--out", required=True, type=Path, metavar="PTH")
    arguments.add_options(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Load the weights into the network, which checks them, and write both."""
    from icre.inference.run import open_model
    from icre.runs.checkpoint import write_checkpoint

    if args.out.suffix != ".pth":
        raise UserError(f"--out {args.out}: checkpoints are saved as .pth, name the file so")
    check_output(args.out)
    source, file = args.source
    opened = open_model(file, "MODEL.DEVICE", "cpu", *args.opts, source=source)
    cfg = opened.cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "auto"
    write_checkpoint({"model": opened.model.state_dict(), "config": cfg.dump()}, args.out)
    cli.show(f"{args.out}: {source}'s model, for --weights of every command")
