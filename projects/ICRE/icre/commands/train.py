"""Train, resume or evaluate any fast-reid model: tools/train_net.py."""

import argparse
import sys

from icre.commands import arguments
from icre.utils import cli


def parser() -> argparse.ArgumentParser:
    """fast-reid's arguments; `--dist-url auto` is for one machine."""
    result = argparse.ArgumentParser(
        description="Train, resume (--resume) or evaluate (--eval-only MODEL.WEIGHTS FILE)."
    )
    arguments.add_config_file(result, required=False)
    result.add_argument("--resume", action="store_true", help="continue the run in OUTPUT_DIR")
    result.add_argument("--eval-only", action="store_true", help="score MODEL.WEIGHTS and leave")
    result.add_argument(
        "--untrained", action="store_true", help="with --eval-only: score initial weights"
    )
    arguments.add_import(result)
    arguments.add_launch(result)
    arguments.add_options(result)
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Check the input, then train or evaluate in as many processes as are asked for."""
    from icre.engine import session

    if args.imports:
        args.opts = [*args.opts, "IMPORTS", str(tuple(args.imports))]
    session.run(args)


if __name__ == "__main__":
    sys.exit(main())
