"""What is kept of a training: one small file, from which every table of it can be made again.

A result is found by its config, not by the row that asked for it, so specs share their runs: the
baseline of one table is trained once for all. The files need neither images, features nor weights,
so those behind a published table can be published too (docs/results/records).
"""

import functools
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from icre.compat import registered

from fastreid.config import CfgNode

from icre.data.loader import load_dataset
from icre.engine.setup import load_config
from icre.evaluation.breakdown import by_identity
from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import Permutation, read_permutation
from icre.evaluation.plan import prepare
from icre.experiments.ablation.runs import differences, is_finished
from icre.experiments.ablation.spec import Run, Spec
from icre.modeling.losses import LOSS_REGISTRY
from icre.utils.environment import ENVIRONMENT
from icre.utils.errors import UserError
from icre.utils.files import replaced

RECORDS = Path("output/ablations/records")
_ELSEWHERE = ("OUTPUT_DIR", "MODEL.HEADS.NUM_CLASSES")  # no part of what was trained
_DIGITS = 6  # of percent


@dataclass(frozen=True)
class Result:
    """One training, scored under one protocol.

    Attributes:
        config: dotted key -> value, where it is not the default.
        record: the metrics of `protocol` and `draw` (`icre.evaluation.records`), seed included.
        identities: {"pid", "queries", "Rank-1", "mAP", "mINP"} of each test identity.
        environment: machine, versions, precision of the training's steps, date of its start.
    """

    config: dict[str, Any]
    record: dict[str, Any]
    identities: list[dict[str, Any]]
    environment: dict[str, Any]


class Results:
    """The results of a spec's protocol in a folder, found by config.

    Args:
        spec: whose protocol and draw are kept.
        folder: of the files.
    """

    def __init__(self, spec: Spec, folder: Path):
        self.spec, self.folder = spec, folder

    def find(self, run: Run) -> Result | None:
        """The run's result, or None where it is not there yet.

        Raises:
            UserError: the file is damaged, or holds another config.
        """
        path = self.path(run)
        if not path.is_file():
            return None
        try:
            result = Result(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} is no result of a training ({error}): remove it") from None
        if result.config != _named(run):
            raise UserError(f"{path} holds the result of another config: remove it")
        return result

    def collect(self, run: Run) -> None:
        """Keep what the run's folder holds, if the run has finished there.

        Raises:
            UserError: the folder holds another run, one that was not scored as the spec asks, or one
                that does not say where it was trained.
        """
        if not is_finished(run):
            return
        features = FeatureSet.load(run.folder / "features.npz")
        data, (setting,) = prepare(
            features, [self.spec.protocol], self.spec.draw, self._permutation(run)
        )
        identities = [
            {key: round(value, _DIGITS) for key, value in one.items()}
            for one in by_identity(data, setting)
        ]
        result = Result(_named(run), self._record(run), identities, _environment(run))
        with replaced(self.path(run)) as file:
            file.write_text(json.dumps(asdict(result)) + "\n")

    def path(self, run: Run) -> Path:
        """Where the run's result is, or will be."""
        words = json.dumps([_named(run), self.spec.protocol, self.spec.draw])
        digest = hashlib.sha256(words.encode()).hexdigest()
        return self.folder / f"{digest[:16]}.json"

    def _permutation(self, run: Run) -> Permutation | None:
        data = load_dataset(run.cfg, run.cfg.DATASETS.TESTS[0])
        official = self.spec.draw == "official" and getattr(data, "permutation_file", None)
        return read_permutation(official) if official else None

    def _record(self, run: Run) -> dict[str, Any]:
        """The run's plain record under the spec's protocol."""
        path = run.folder / "metrics.json"
        for record in json.loads(path.read_text()):
            if (record["protocol"], record["draw"], record["rerank"]) == (
                self.spec.protocol,
                self.spec.draw,
                None,
            ):
                return record
        raise UserError(
            f"{path} has no record of {self.spec.protocol}, draw {self.spec.draw}: set the spec's "
            "protocol and draw to one of the data set"
        )


def _environment(run: Run) -> dict[str, Any]:
    path = run.folder / ENVIRONMENT
    if not path.is_file():
        raise UserError(f"{path} is missing (an older version trained this run): remove its folder")
    return json.loads(path.read_text())


@functools.cache
def _defaults() -> CfgNode:
    return load_config()


def _named(run: Run) -> dict[str, Any]:
    """The config as its differences from the defaults, in JSON's types.

    Without the settings of our losses that MODEL.LOSSES.NAME leaves out (not of fast-reid's: other
    losses read CE's), and the learning rate of modules that are off.
    """
    model = run.cfg.MODEL
    absent = tuple(
        f"MODEL.LOSSES.{loss.node}."
        for name, loss in registered(LOSS_REGISTRY).items()
        if hasattr(loss, "node") and name not in model.LOSSES.NAME
    )
    if not (model.MPFR.ENABLED or model.SDCE.ENABLED):
        absent += ("SOLVER.ENHANCE_LR_FACTOR",)
    changed = {
        key: value
        for key, _, value in differences(_defaults(), run.cfg)
        if key not in _ELSEWHERE and not key.startswith(absent)
    }
    return json.loads(json.dumps(dict(sorted(changed.items()))))
