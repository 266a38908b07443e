"""Render demo data in the layout of a real visible-infrared data set, or a named benchmark.

The real sets need signed agreements; this writes procedural pedestrians that the real loaders read:

    python tools/make_demo_data.py --layout sysu --root datasets/demo/SYSU-MM01 --ids 300 --seed 0
    python tools/make_demo_data.py --benchmark SynthVI-S --root datasets/SynthVI-S/SYSU-MM01
"""

import argparse
import re
import sys
from pathlib import Path

from synthvi import benchmarks
from synthvi.layout import LAYOUTS, DemoError, DemoOptions
from synthvi.levels import LEVELS
from synthvi.sheet import save_pictures, save_sheet
from synthvi.tree import is_finished, write_tree


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line -> arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="folder to write; new or empty")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0 is one per core")
    parser.add_argument(
        "--contact-sheet",
        type=Path,
        metavar="PNG",
        help="also draw the first identities before all cameras",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="only draw the pictures of docs/synth.md into the folder",
    )
    demo = parser.add_argument_group("demo data")
    demo.add_argument("--layout", default="sysu", choices=list(LAYOUTS))
    demo.add_argument(
        "--ids",
        type=int,
        default=300,
        help="training identities, a quarter of them for validation (default 300)",
    )
    demo.add_argument("--test-ids", type=int, default=48, help="test identities (default 48)")
    demo.add_argument(
        "--images-per-camera",
        type=int,
        default=6,
        help="images of a training identity in each camera (default 6)",
    )
    demo.add_argument(
        "--test-images-per-camera",
        type=int,
        default=10,
        help="images of a test identity in each camera; multi-shot needs 10",
    )
    demo.add_argument("--size", default="128x64", help="height x width in pixels (128x64)")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument(
        "--difficulty",
        default="easy",
        choices=list(LEVELS),
        help="default easy; synthvi/levels.py says what each level means",
    )
    frozen = parser.add_argument_group("a frozen benchmark, whose settings nothing changes")
    frozen.add_argument("--benchmark", choices=list(benchmarks.BENCHMARKS))
    frozen.add_argument(
        "--choosing",
        action="store_true",
        help="the world to choose settings on, not the one to report",
    )
    frozen.add_argument("--verify", action="store_true", help="only compare a tree's checksum")
    frozen.add_argument(
        "--record",
        action="store_true",
        help="render both worlds and write their checksums into the package",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Do what is asked; returns the exit status (2: bad arguments, with one line on stderr)."""
    args = parse(argv)
    try:
        if args.pictures:
            print(*save_pictures(args.pictures, args.seed), sep="\n")
        elif args.record and args.benchmark:
            for name, value in benchmarks.record(args.benchmark, args.workers).items():
                print(f"{name}: {value.images} images, {value.sha256}")
        elif args.verify and args.benchmark and args.root:
            print(benchmarks.verify(args.root, args.benchmark, args.choosing))
        else:
            _render(args)
    except (DemoError, OSError) as error:
        print(f"make_demo_data: {error}", file=sys.stderr)
        return 2
    return 0


def _render(args: argparse.Namespace) -> None:
    options = _options(args)
    there = is_finished(args.root, options)
    counts = write_tree(args.root, options, args.workers)
    total = sum(counts.values())
    print(f"{args.root}: {total} images " + ("already there" if there else "written"))
    for folder, count in counts.items():
        print(f"  {folder:<12} {count:>7}")
    if args.contact_sheet:
        save_sheet(args.contact_sheet, options)
        print(f"contact sheet: {args.contact_sheet}")


def _options(args: argparse.Namespace) -> DemoOptions:
    match = re.fullmatch(r"(\d+)x(\d+)", args.size)
    if args.root is None:
        raise DemoError("--root is missing: name the folder to write")
    if (args.choosing or args.verify or args.record) and not args.benchmark:
        raise DemoError("--choosing, --verify and --record need --benchmark NAME")
    if not match:
        raise DemoError(f"--size {args.size}: write height x width, such as 128x64")
    if args.workers < 0:
        raise DemoError(f"--workers {args.workers}: it must be 0 (all cores) or more")
    if args.contact_sheet and args.contact_sheet.suffix not in (".png", ".jpg"):
        raise DemoError(f"--contact-sheet {args.contact_sheet}: name a .png or .jpg file")
    if args.benchmark:
        return benchmarks.benchmark(args.benchmark, args.choosing)
    return DemoOptions(
        layout=args.layout,
        ids=args.ids,
        test_ids=args.test_ids,
        train_images=args.images_per_camera,
        test_images=args.test_images_per_camera,
        height=int(match[1]),
        width=int(match[2]),
        seed=args.seed,
        difficulty=args.difficulty,
    )


if __name__ == "__main__":
    sys.exit(main())
