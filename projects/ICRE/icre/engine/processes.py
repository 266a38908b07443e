"""The processes (ranks) of one machine: all end with the first that fails, whose error is raised.

torch.multiprocessing.spawn keeps neither the type of a rank's exception nor its exit status, and
ends the other ranks by SIGTERM, which here means to write a checkpoint first.
"""

import multiprocessing
import multiprocessing.connection
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

import torch

from icre.utils.errors import STOPPED, RunEnded, UserError

FAILURE_TIMEOUT = 5.0  # seconds for the other ranks to fail too, after the first has
STOP_TIMEOUT = 300.0  # the same after SIGTERM, when the first rank writes a checkpoint


class Report(NamedTuple):
    """The error that a rank sends before it ends."""

    when: float
    kind: str  # name of the exception
    text: str
    status: int


class Rank:
    """One process of a run.

    Args:
        work: called as work(number, *args) in the process; importable from the top of a module.
        number: of the rank on this machine.
        args: can be pickled.
    """

    def __init__(self, work: Callable, number: int, args: tuple):
        context = multiprocessing.get_context("spawn")
        self.number = number
        self._pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_run, args=(theirs, work, number, args))
        self.process.start()
        theirs.close()

    @cached_property
    def report(self) -> Report | None:
        """Its error, once it has ended; None if it was killed."""
        try:
            return self._pipe.recv() if self._pipe.poll() else None
        except EOFError:
            return None


def run_processes(work: Callable, count: int, args: tuple) -> None:
    """Run `work(rank, *args)` in `count` processes until all have returned.

    SIGTERM is passed on to them.

    Raises:
        UserError: a rank's.
        RunEnded: a rank's, or a rank was killed or failed; the others are then killed.
    """
    ranks = [Rank(work, number, args) for number in range(count)]
    with _forward_sigterm(ranks) as stopped:
        try:
            failed = _watch(ranks)
        finally:
            for rank in ranks:
                rank.process.kill()
                rank.process.join()
    if failed:
        slow = [rank for rank in ranks if rank.report and rank not in failed]
        raise _cause(failed + slow, bool(stopped))


def _watch(ranks: list[Rank]) -> list[Rank]:
    """Wait for all to end, or some time after the first failure; returns those that failed."""
    running, failed, deadline = list(ranks), [], None
    while running:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        multiprocessing.connection.wait([rank.process.sentinel for rank in running], left)
        ended = [rank for rank in running if rank.process.exitcode is not None]
        running = [rank for rank in running if rank not in ended]
        failed += [rank for rank in ended if rank.process.exitcode]
        if failed and deadline is None:
            leaves = failed[0].report and failed[0].report.status == STOPPED
            deadline = time.monotonic() + (STOP_TIMEOUT if leaves else FAILURE_TIMEOUT)
    return failed


def _cause(failed: list[Rank], stopped: bool) -> Exception:
    """The first failure: a rank that was killed, else the first that sent its error."""
    killed = [rank for rank in failed if rank.report is None]
    if killed and stopped:
        return RunEnded("left on SIGTERM before its first step; go on with --resume", STOPPED)
    if killed:
        return RunEnded(
            f"{_death(killed[0])}, so all ranks are ended; go on with --resume (out of memory? "
            "Then lower SOLVER.IMS_PER_BATCH or DATALOADER.CACHE_GB)"
        )
    rank = min(failed, key=lambda rank: rank.report.when)
    report = rank.report
    if report.kind == UserError.__name__:
        return UserError(report.text)
    if report.kind == RunEnded.__name__:
        return RunEnded(report.text, report.status)
    return RunEnded(
        f"rank {rank.number} failed, so all ranks are ended; its traceback is above and ends in "
        f"{report.kind}: {report.text}"
    )


def _death(rank: Rank) -> str:
    code = rank.process.exitcode
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"left with status {code}"
    return f"rank {rank.number} (process {rank.process.pid}) {how}"


@contextmanager
def _forward_sigterm(ranks: list[Rank]) -> Iterator[list[bool]]:
    """While entered, SIGTERM is sent on to the ranks; yields a list that is empty until then."""
    received: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def forward(number, frame) -> None:
        received.append(True)
        for rank in ranks:
            rank.process.terminate()

    before = signal.signal(signal.SIGTERM, forward)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(pipe, work: Callable, number: int, args: tuple) -> None:
    """Entry point of a rank's process."""
    # a launcher that is killed takes its ranks along; Ctrl-C is the launcher's to answer
    torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work(number, *args)
    except Exception as error:
        known = isinstance(error, (UserError, RunEnded))
        if not known:
            traceback.print_exc()
        text = str(error) if known else " ".join(str(error).split())[:500]
        status = error.status if isinstance(error, RunEnded) else 2 if known else 1
        pipe.send(Report(time.time(), type(error).__name__, text, status))
        sys.exit(status)
