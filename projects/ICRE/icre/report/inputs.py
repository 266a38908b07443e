"""What the sections of a report are made from: its options, and the parts of runs that exist."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from icre.evaluation.trials import Trials, build_trials
from icre.inference.run import Run
from icre.report.page import Note
from icre.utils.errors import UserError


@dataclass(frozen=True)
class Options:
    """Options of a report.

    Args:
        protocol, draw: protocol and gallery sampling of everything but the table of results; None:
            the data set's first, and official where the data set has rand_perm_cam.mat.
        seed: of the choice of people, and of t-SNE.
    """

    protocol: str | None = None
    draw: str | None = None
    seed: int = 0

    def trials(self, run: Run) -> Trials:
        """The trials of the protocol on the run's features."""
        protocols = self.protocol and [self.protocol]
        return build_trials(run.features, protocols, self.draw, run.permutation_file)[1][0]


def gather(runs: Sequence[Run], part: str) -> tuple[dict[str, Any], list[Note]]:
    """An attribute of every run that has it, {run's name: value}, and a note for each without."""
    found, missing = {}, []
    for run in runs:
        try:
            found[run.name] = getattr(run, part)
        except UserError as error:
            missing.append(Note(str(error)))
    return found, missing
