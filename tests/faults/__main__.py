"""Run the whole suite; the last line says what was done and what was lost."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; the runs are tiny, and are forked

import argparse
import sys
import tempfile
import time
from pathlib import Path

from conftest import render_demo
from faults import disk, inputs, kills, ranks
from faults.runs import Faults

PARTS = ("kills", "ranks", "disk", "inputs")


def main(argv: list[str] | None = None) -> int:
    """Parse and run; 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=25, help="of each of two runs")
    parser.add_argument("--inputs", type=int, default=4000, help="broken files, at least")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args(argv)
    faults, counts = Faults(), dict.fromkeys(PARTS, 0)
    with tempfile.TemporaryDirectory(prefix="faults") as name:
        folder = Path(name)
        root = folder / "datasets"
        render_demo(root)
        run = {
            "kills": lambda: kills.kill(root, folder / "kills", args.kills, faults),
            "ranks": lambda: ranks.break_ranks(root, folder / "ranks", faults),
            "disk": lambda: disk.fill(folder / "disk", faults),
            "inputs": lambda: inputs.break_files(folder / "inputs", args.inputs, faults),
        }
        for part in args.parts:
            begin = time.monotonic()
            counts[part] = run[part]()
            print(f"{part}: {counts[part]} in {time.monotonic() - begin:.0f} s", flush=True)
    print(
        f"faults: {counts['kills']} kills, {counts['inputs']} inputs, {counts['ranks']} ranks, "
        f"lost {faults.lost}"
    )
    return 1 if faults.lost else 0


if __name__ == "__main__":
    sys.exit(main())
