"""What is there: models, losses, data sets, config keys and their like; tools/list.py."""

import argparse
import json
from pathlib import Path

from icre.commands import arguments
from icre.utils import cli
from icre.utils.errors import UserError

KINDS = (
    "models",
    "losses",
    "datasets",
    "backbones",
    "heads",
    "samplers",
    "protocols",
    "keys",
    "configs",
    "examples",
)


def parser() -> argparse.ArgumentParser:
    """What is listed, and how."""
    result = argparse.ArgumentParser(
        description="List what a config can name: each with its meaning and where it is from "
        "(icre, fast-reid, or a module of your own). keys: default, allowed values, unit and "
        "source of every config key. examples: files to copy, such as a loss of one's own."
    )
    result.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    result.add_argument(
        "prefix", nargs="?", default="", metavar="PREFIX", help="only names that begin with it"
    )
    arguments.add_import(result)
    result.add_argument("--json", action="store_true", help="print JSON")
    result.add_argument(
        "--configs", type=Path, metavar="DIR", help="for configs: a folder (default: those shipped)"
    )
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Print the list."""
    if args.kind == "examples":
        from icre.listing.examples import example_entries

        rows = example_entries()
    elif args.kind == "configs":
        from icre.listing.configs import config_entries

        rows = config_entries(args.configs)
    else:
        from icre.listing.keys import key_entries
        from icre.listing.names import kinds

        keys = key_entries(args.imports)  # imports the modules
        rows = keys if args.kind == "keys" else kinds()[args.kind]()
    above = f"{args.configs}/" if args.configs else ""
    wanted = args.prefix.lower()
    chosen = [row for row in rows if row.name.removeprefix(above).lower().startswith(wanted)]
    if not chosen:
        raise UserError(f"no name in {args.kind} begins with {args.prefix!r}")
    _show(args, chosen)


def _show(args: argparse.Namespace, rows: list) -> None:
    from dataclasses import asdict

    from icre.listing import text
    from icre.listing.keys import as_json

    if args.json:
        plain = as_json if args.kind == "keys" else asdict
        cli.show(json.dumps([plain(row) for row in rows], indent=1))
    else:
        cli.show((text.key_blocks if args.kind == "keys" else text.columns)(rows))
