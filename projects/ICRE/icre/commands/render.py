"""Render demo data or a SynthVI benchmark: tools/make_demo_data.py."""

import argparse
import re
from contextlib import nullcontext
from pathlib import Path

from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.files import check_output, replaced
from icre.utils.lock import locked


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Render demo data in the layout of a real visible-infrared data set, or a "
        "named benchmark."
    )
    result.add_argument("--root", type=Path, help="folder to write; new or empty")
    result.add_argument("--workers", type=int, default=0, help="processes; 0 is one per core")
    result.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="PNG",
        help="also write a picture of the first identities in all cameras",
    )
    result.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="only write the pictures of the documentation into the folder",
    )
    _demo_arguments(result.add_argument_group("demo data"))
    _benchmark_arguments(result.add_argument_group("a frozen benchmark, which fixes all settings"))
    return result


def _demo_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--layout", default="sysu", choices=["sysu", "regdb", "llcm", "market1501"])
    group.add_argument(
        "--ids",
        type=int,
        default=300,
        help="training identities, a quarter of them for validation (default 300)",
    )
    group.add_argument("--test-ids", type=int, default=48, help="test identities (default 48)")
    group.add_argument(
        "--images-per-camera",
        type=int,
        default=6,
        help="images of a training identity in each camera (default 6)",
    )
    group.add_argument(
        "--test-images-per-camera",
        type=int,
        default=10,
        help="images of a test identity in each camera; multi-shot needs 10",
    )
    group.add_argument("--size", default="128x64", help="height x width in pixels (128x64)")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument(
        "--difficulty",
        default="easy",
        choices=["uniform", "plain", "muted", "easy", "mild", "standard", "hard", "extreme"],
        help="default easy; see projects/SynthVI/README.md",
    )


def _benchmark_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--benchmark", choices=["SynthVI-S", "SynthVI"])
    group.add_argument(
        "--dev",
        "--choosing",
        action="store_true",
        help="the world to choose settings on, in place of the one to report",
    )
    group.add_argument("--verify", action="store_true", help="only compare a tree's checksum")
    group.add_argument(
        "--record",
        action="store_true",
        help="render both worlds and write their checksums into the package",
    )


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Render, verify or record; raises UserError on bad arguments and unusable folders."""
    from synthvi.layout import DemoError

    try:
        _run(args)
    except (DemoError, OSError) as error:
        raise UserError(str(error)) from error


def _run(args: argparse.Namespace) -> None:
    from synthvi import benchmarks
    from synthvi.contact_sheet import save_pictures

    if args.pictures:
        print(*save_pictures(args.pictures, args.seed), sep="\n")
    elif args.record and args.benchmark:
        for name, value in benchmarks.record(args.benchmark, args.workers).items():
            print(f"{name}: {value.images} images, {value.sha256}")
    elif args.verify and args.benchmark and args.root:
        print(benchmarks.verify(args.root, args.benchmark, _world(args)))
    else:
        _render(args)


def _world(args: argparse.Namespace) -> str:
    return "dev" if args.dev else "test"


def _render(args: argparse.Namespace) -> None:
    from synthvi.benchmarks import benchmark
    from synthvi.contact_sheet import save_contact_sheet
    from synthvi.layout import DemoOptions
    from synthvi.writer import is_finished, write_tree

    height, width = _check(args)
    if args.benchmark:
        options = benchmark(args.benchmark, _world(args))
    else:
        options = DemoOptions(
            layout=args.layout,
            ids=args.ids,
            test_ids=args.test_ids,
            train_images=args.images_per_camera,
            test_images=args.test_images_per_camera,
            height=height,
            width=width,
            seed=args.seed,
            difficulty=args.difficulty,
        )
    check_output(args.contact_sheet)
    finished = is_finished(args.root, options)
    with nullcontext() if finished else locked(args.root, "--root"):
        counts = write_tree(args.root, options, args.workers)
    print(
        f"{args.root}: {sum(counts.values())} images {'already there' if finished else 'written'}"
    )
    for folder, count in counts.items():
        print(f"  {folder:<12} {count:>7}")
    if args.contact_sheet:
        with replaced(args.contact_sheet) as file:
            save_contact_sheet(file, options)
        print(f"contact sheet: {args.contact_sheet}")


def _check(args: argparse.Namespace) -> tuple[int, int]:
    """Check the arguments for rendering a tree; returns height and width."""
    size = re.fullmatch(r"(\d+)x(\d+)", args.size)
    if args.root is None:
        raise UserError("--root is missing: name the folder to write")
    if (args.dev or args.verify or args.record) and not args.benchmark:
        raise UserError("--dev, --verify and --record need --benchmark NAME")
    if not size:
        raise UserError(f"--size {args.size}: write height x width, such as 128x64")
    if args.workers < 0:
        raise UserError(f"--workers {args.workers}: it must be 0 (all cores) or more")
    if args.contact_sheet and args.contact_sheet.suffix not in (".png", ".jpg"):
        raise UserError(f"--contact-sheet {args.contact_sheet}: name a .png or .jpg file")
    return int(size[1]), int(size[2])
