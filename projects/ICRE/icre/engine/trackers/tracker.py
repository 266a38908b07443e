"""What a tracker is, and the two services behind it do."""

import os
import re
from collections.abc import Mapping
from typing import Protocol

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"  # how a training ends
DEFAULT_PROJECT = "icre"
_SECRET = re.compile(r"(WANDB|MLFLOW|AWS|AZURE|DATABRICKS)_.*(KEY|TOKEN|PASSWORD|SECRET)", re.I)


class Tracker(Protocol):
    """A run of a training in a tracking service.

    Attributes:
        id: of the run in the service; a resumed training goes on with it.
        place: folder or address, for the log.
    """

    id: str
    place: str

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Add scalars of one step, counted from 0."""

    def result(self, scores: Mapping[str, float], step: int) -> None:
        """Add the scores of the test set; `step` is the last one of the training."""

    def end(self, status: str) -> None:
        """Close the run; `status` is FINISHED, STOPPED (it can be resumed) or FAILED."""


def without_secrets(text: str) -> str:
    """`text` without passwords in addresses and without the values of secret variables."""
    text = re.sub(r"//[^/@\s]+@", "//***@", text)
    for name, value in os.environ.items():
        if len(value) > 3 and _SECRET.fullmatch(name):
            text = text.replace(value, "***")
    return text
