"""Choose an epoch on held-out training identities, never on the test set."""

import logging
import shutil
from pathlib import Path
from typing import Any

from icre.evaluation import records
from icre.evaluation.evaluator import metric
from icre.utils.errors import UserError
from icre.utils.files import read_json, replaced
from icre.utils.run_folder import RunFolder

logger = logging.getLogger("fastreid.icre")


class BestOnValidation:
    """Keeps `model_best.pth`, and every epoch's validation records in `validation.json`.

    Both are written atomically, so a resumed run knows what the best epoch was.

    Args:
        run: OUTPUT_DIR.
        start_epoch: finished epochs of a resumed run; later records are dropped. If the best is
            among them, `model_best.pth` holds an epoch that is trained again, and no longer the
            best of those before it: all are dropped, and the best is that of epochs added later.
    """

    def __init__(self, run: RunFolder, start_epoch: int = 0):
        self.run, self.path = run, run.validation
        try:
            known = read_json(self.path) if self.path.is_file() else []
        except UserError as error:
            raise UserError(f"{error}; delete it") from None
        if not (isinstance(known, list) and all(_has_epoch(record) for record in known)):
            raise UserError(f"{self.path} does not hold records with an epoch; delete it")
        self.records: list[dict] = known
        kept = [record for record in known if record["epoch"] <= start_epoch]
        if len(kept) < len(known) and kept and self.best_epoch not in _epochs(kept):
            logger.warning(
                "%s holds epoch %d, which is trained again: the best epoch is chosen from those "
                "validated from now on, as the best weights of earlier ones are gone",
                run.best,
                self.best_epoch,
            )
            kept = []
        self.records = kept

    @property
    def best_epoch(self) -> int | None:
        """The epoch (finished, from 1) with the highest metric, the first of equals."""
        by_epoch: dict[int, list[dict]] = {}
        for record in self.records:
            by_epoch.setdefault(record["epoch"], []).append(record)
        return max(by_epoch, key=lambda epoch: metric(by_epoch[epoch]), default=None)

    def knows(self, epoch: int) -> bool:
        """Whether there are records of that many finished epochs."""
        return epoch in _epochs(self.records)

    def add(self, scored: list[dict], checkpoint: Path) -> None:
        """Remember an epoch's records; `checkpoint` becomes the best where they say so."""
        self.records += scored
        if self.best_epoch == scored[0]["epoch"]:
            with replaced(self.run.best) as temporary:
                shutil.copyfile(checkpoint, temporary)
        records.save(self.records, self.path)


def _epochs(scored: list[dict]) -> set[int]:
    return {record["epoch"] for record in scored}


def _has_epoch(record: Any) -> bool:
    return isinstance(record, dict) and type(record.get("epoch")) is int
