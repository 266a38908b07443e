"""Run the whole suite; the last line says what was done and what was lost."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch; the runs are tiny, and are forked

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from tqdm import tqdm

from conftest import render_demo
from faults import disk, inputs, kills, ranks, writers
from faults.commands import commands, prepare
from faults.runs import Faults

PARTS = {
    "kills": "kill -9 at random moments",
    "ranks": "ranks killed, frozen or stopped",
    "interrupts": "SIGINT and SIGTERM",
    "writers": "two processes writing into one place",
    "disk": "full disks",
    "inputs": "hostile files",
}


def main(argv: list[str] | None = None) -> int:
    """Parse and run; 1 where something was lost."""
    parser = argparse.ArgumentParser(prog="faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=15, help="of each of two trainings")
    parser.add_argument("--command-kills", type=int, default=4, help="of each other command")
    parser.add_argument("--commands", nargs="+", help="names of those commands; all if not given")
    parser.add_argument("--inputs", type=int, default=5000, help="hostile files, at least")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    args = parser.parse_args(argv)
    # tqdm's own lock is shared by all forks, and a process that is killed may hold it for ever
    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())
    faults, counts = Faults(), dict.fromkeys(PARTS, 0)
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults") as name:
        folder = Path(name)
        root, prepared = folder / "datasets", folder / "prepared"
        render_demo(root)
        prepare(root, prepared, faults)
        table = commands(root, prepared)
        killed = {name: table[name] for name in args.commands or table}
        run = {
            "kills": lambda: (
                kills.kill(root, folder / "kills", args.kills, faults)
                + kills.kill_commands(killed, folder / "killed", args.command_kills, faults)
            ),
            "ranks": lambda: ranks.break_ranks(root, folder / "ranks", faults),
            "interrupts": lambda: ranks.interrupt(root, folder / "interrupts", faults),
            "writers": lambda: writers.write_twice(root, table, folder / "writers", faults),
            "disk": lambda: disk.fill(root, prepared, folder / "disk", faults),
            "inputs": lambda: inputs.break_files(prepared, folder / "inputs", args.inputs, faults),
        }
        for part in args.parts:
            begin, before = time.monotonic(), faults.lost
            counts[part] = run[part]()
            took = time.monotonic() - begin
            rows.append((PARTS[part], counts[part], faults.lost - before, f"{took:.0f} s"))
    print("\n| kind | tried | lost | time |\n|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print(
        f"faults: {counts['kills']} kills, {counts['inputs']} inputs, {counts['ranks']} ranks, "
        f"lost {faults.lost}"
    )
    return 1 if faults.lost else 0


if __name__ == "__main__":
    sys.exit(main())
