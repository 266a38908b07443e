"""Print what a shell needs to complete `icre`: `icre completion bash`."""

import argparse
import importlib

from icre.utils import cli
from icre.utils.errors import UserError

SHELLS = ("bash", "zsh", "tcsh")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    result = argparse.ArgumentParser(
        description=__doc__,
        epilog="For bash: icre completion bash > ~/.local/share/bash-completion/completions/icre",
    )
    result.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Print the script.

    Raises:
        UserError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise UserError("completion needs the package shtab: pip install shtab") from None
    print(shtab.complete(whole_parser(), args.shell))


def whole_parser() -> argparse.ArgumentParser:
    """A parser of `icre` with every command's own below it."""
    from icre.commands import COMMANDS

    result = argparse.ArgumentParser(prog="icre")
    commands = result.add_subparsers()
    for name, (module, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
        own = importlib.import_module(f"icre.commands.{module}").parser()
        own.prog = f"icre {name}"
        commands.choices[name] = own
    return result
