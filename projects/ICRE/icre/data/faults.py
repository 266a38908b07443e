"""Faults of the processes that load images, as one-line errors."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from icre.utils.errors import RunEnded, UserError


@contextmanager
def worker_faults() -> Iterator[None]:
    """Translate the errors of torch's DataLoader workers; enclose their whole use.

    (torch raises in the middle of anything when a worker is killed, from its signal handler.)

    Raises:
        UserError: a worker's, without the worker's traceback.
        RunEnded: a worker was killed, or took longer than DATALOADER.TIMEOUT.
    """
    try:
        yield
    except UserError as error:
        raise UserError(str(error.args[0]).rpartition("UserError: ")[2].strip()) from None
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if isinstance(error, RunEnded) or not text.startswith("DataLoader"):
            raise
        if "timed out" in text:
            advice = "is the disk of DATASETS.ROOT alive? Else raise DATALOADER.TIMEOUT"
        else:
            advice = "where memory ran out, lower DATALOADER.NUM_WORKERS or CACHE_GB"
        raise RunEnded(f"{text.rstrip('. ')}: {advice}; go on with --resume") from error


GRACE = 60  # seconds


def outlive_sigterm(worker: int) -> None:
    """Worker initialisation: the first SIGTERM ends the worker after GRACE, a second one at once.

    Schedulers send it to all processes of a run; the trainer then needs its workers for the step
    that it is in, and ends them itself when it leaves.
    """

    def first(number, frame) -> None:
        signal.alarm(GRACE)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, first)
