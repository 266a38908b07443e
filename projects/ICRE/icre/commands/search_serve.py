"""`search serve`: an HTTP service and a page on top of a gallery."""

import argparse
from dataclasses import fields
from pathlib import Path

from icre.commands import search_images as shared
from icre.serve.limits import Limits
from icre.utils.errors import UserError


def serve_arguments(sub: argparse.ArgumentParser) -> None:
    """Of `serve`."""
    sub.add_argument("gallery", type=Path, metavar="GALLERY")
    shared.add_weights(sub)
    shared.add_store(sub)
    sub.add_argument(
        "--host", default="127.0.0.1", help="another address than this machine's own needs tokens"
    )
    sub.add_argument("--port", type=int, default=8000, help="0: any (8000)")
    sub.add_argument(
        "--tokens",
        type=Path,
        metavar="FILE",
        help="lines NAME read|write TOKEN (default: the environment variable ICRE_TOKENS, if set)",
    )
    sub.add_argument(
        "--uploads", type=Path, metavar="DIR", help="where images that requests add are written"
    )
    audit = sub.add_mutually_exclusive_group()
    audit.add_argument(
        "--audit", default="-", metavar="FILE", help="a line of each query (standard error)"
    )
    audit.add_argument("--no-audit", dest="audit", action="store_const", const=None)
    group = sub.add_argument_group("limits")
    for one in fields(Limits):
        group.add_argument(
            f"--{one.metadata['option']}",
            dest=one.name,
            type=type(one.default),
            default=one.default,
            metavar="N",
            help=f"{one.metadata['help']} ({one.default})",
        )


def serve(args: argparse.Namespace) -> None:
    """Serve a gallery until it is stopped."""
    try:
        from icre.serve.start import Settings
        from icre.serve.start import serve as start
    except ModuleNotFoundError as error:
        raise UserError(f"serve needs {error.name}: pip install 'icre[serve]'") from None
    limits = Limits(**{one.name: getattr(args, one.name) for one in fields(Limits)})
    place = args.gallery if args.store else args.gallery.resolve()
    store = shared.open_store(args, place, patient=False)
    names = ("weights", "device", "host", "port", "tokens", "uploads", "audit")
    start(Settings(store, **{name: getattr(args, name) for name in names}, limits=limits))


COMMANDS = {"serve": ("answer queries by HTTP, with a page", serve_arguments, serve)}
