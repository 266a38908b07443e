"""Two processes that write into one place at the same time: one whole result, and no mixture."""

import shutil
from pathlib import Path

from faults.commands import Command, results
from faults.runs import Faults, ended, errors, same_end, start, tail, training
from small_runs import STOCK, TINY_MODEL

OPTIONS = (*TINY_MODEL, "SOLVER.MAX_EPOCH", "20", "SOLVER.CHECKPOINT_ITERS", "1")


def write_twice(root: Path, table: dict[str, Command], folder: Path, faults: Faults) -> int:
    """Start each command, and a training, twice at once; returns the pairs."""
    folder.mkdir(parents=True)
    for name, command in table.items():
        out, logs = folder / "out", _logs(folder)
        _, whole = command.unbroken(out, logs[0], faults)
        command.prepare(out)
        said = _together([lambda log: command.start(out, log)] * 2, logs, faults, name)
        faults.check(results(out) == whole, f"writers: {name}: another result than of one: {said}")
    both, alone = (
        training(root, folder / name, *OPTIONS, config=STOCK) for name in ("run", "alone")
    )
    faults.check(ended(start(alone, _logs(folder)[0])) == 0, "writers: alone")
    said = _together([lambda log: start(both, log)] * 2, _logs(folder), faults, "train")
    faults.check("is writing into" in said, f"writers: two trainings were not told: {said}")
    faults.check(same_end(folder / "run", folder / "alone"), "writers: a mixture of two trainings")
    shutil.rmtree(folder)
    return len(table) + 1


def _logs(folder: Path) -> list[Path]:
    for path in folder.glob("log*.txt"):
        path.unlink()
    return [folder / f"log{number}.txt" for number in range(2)]


def _together(begin: list, logs: list[Path], faults: Faults, name: str) -> str:
    """Run both; one must end well, the other too or with one line, which is returned."""
    processes = [one(log) for one, log in zip(begin, logs)]
    statuses = [ended(process) for process in processes]
    said = [line for log in logs for line in errors(log)]
    fine = 0 in statuses and set(statuses) <= {0, 2} and len(said) == statuses.count(2)
    faults.check(fine, f"writers: {name}: {statuses}: {[tail(log) for log in logs]}")
    faults.check(
        not any("Traceback" in tail(log, 10**6) for log in logs), f"writers: {name}: a traceback"
    )
    print(f"writers: {name}: status {statuses[0]} and {statuses[1]} {said}", flush=True)
    return "".join(said)
