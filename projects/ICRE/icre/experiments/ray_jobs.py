"""Jobs as tasks of a Ray cluster, which places them by GPU and runs again what dies."""

import ctypes
import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence

from icre.cluster.connect import Cluster
from icre.experiments.jobs import POLL_SECONDS, Job, start

logger = logging.getLogger("fastreid.icre")
RETRIES = 3  # of a job whose process, worker or machine died
STOP_SECONDS = 300.0  # for the processes to write a checkpoint
_DIED = 1  # exit status of a job that died too often
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of Linux's prctl


class JobDied(RuntimeError):
    """A job's process was killed, as the kernel does where memory runs out."""


class RayRunner:
    """Jobs on a cluster: one on each GPU, or `at_a_time` on each machine where there are none.

    A job that dies with its worker or machine goes on elsewhere from its last checkpoint.

    Args:
        cluster: connected.
        at_a_time: on each machine, without GPUs.
    """

    def __init__(self, cluster: Cluster, at_a_time: int = 1):
        self.cluster, self.at_a_time = cluster, at_a_time

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, int] | None]:
        """See `icre.experiments.jobs.Runner`."""
        import ray

        task = ray.remote(
            max_retries=RETRIES, retry_exceptions=[JobDied], **self.cluster.share(self.at_a_time)
        )(work)
        running = {task.remote(job, os.getcwd()): job for job in jobs}
        try:
            while running:
                ended, _ = ray.wait(list(running), timeout=POLL_SECONDS)
                for answer in ended:
                    job = running.pop(answer)
                    try:
                        yield job, ray.get(answer)
                    except ray.exceptions.RayError as error:
                        reason = str(error).strip().splitlines()[-1]
                        logger.warning("%s has died: %s", job.name, reason)
                        yield job, _DIED
                yield None
        finally:
            for answer in running:
                ray.cancel(answer)
            if running:
                ray.wait(list(running), num_returns=len(running), timeout=STOP_SECONDS)


def work(job: Job, folder: str) -> int:
    """Run a job in the folder of the command, in a process that ends with this worker.

    Returns:
        Its exit status.

    Raises:
        JobDied: a signal ended it.
    """
    os.chdir(folder)  # paths of the command line are relative to it
    process = start(job, {}, preexec_fn=_end_with_parent)
    try:
        # not process.wait(): Ray cancels by an exception, which comes between two instructions
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode < 0:
        raise JobDied(f"{job.name}: its process was ended by signal {-process.returncode}")
    return process.returncode


def _end_with_parent() -> None:
    """Two trainings must not write into one folder: a job that lives on would block its retry."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
