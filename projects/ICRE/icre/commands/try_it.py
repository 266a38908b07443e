"""Search at once: a small model and 200 rendered crops come with the package."""

import argparse
from pathlib import Path

from icre.utils import cli

QUERIES = 5


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(description=__doc__)
    result.add_argument(
        "--out",
        type=Path,
        default=Path("icre-try"),
        metavar="DIR",
        help="folder for the gallery and the page (icre-try)",
    )
    result.add_argument("--open", action="store_true", help="open the page in a browser")
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Index the crops, ask with five infrared ones, and name the page of answers.

    Raises:
        UserError: the folder is there already, or cannot be written.
    """
    from icre.commands import search
    from icre.inference.shipped import SAMPLE
    from icre.utils.errors import UserError

    if args.out.exists():
        raise UserError(f"{args.out} exists: remove it, or name another folder with --out")
    images, gallery, page = SAMPLE / "images", args.out / "gallery", args.out / "answers.html"
    args.out.mkdir(parents=True)
    visible = [str(images / f"cam{camera}") for camera in (1, 2, 4, 5)]
    queries = [str(path) for path in sorted((images / "cam6").glob("*/*.jpg"))[:QUERIES]]
    for words in (
        ["index", *visible, "--weights", "synthvi-small", "--out", str(gallery)],
        ["query", str(gallery), *queries, "--modality", "infrared", "--html", str(page)],
    ):
        print("$ icre search", *(_short(word, images) for word in words), flush=True)
        options = search.parser().parse_args(words)
        options.run(options)
    print(f"\nThe matches with their pictures: {page.resolve()}")
    print("In Python: icre.load('synthvi-small'). By HTTP: icre search serve", gallery)
    if args.open:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _short(word: str, images: Path) -> str:
    path = Path(word)
    return str(path.relative_to(images)) if path.is_relative_to(images) else word
