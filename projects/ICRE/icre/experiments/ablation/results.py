"""Records of finished trainings: one small file each, from which every table can be made again.

A record is found by its config and not by a row's name, so that specs share their runs: the
baseline of one table is trained once for all. Records need neither images, features nor weights, so
those of a published table are published too (docs/results/records).
"""

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from icre.compat import registered

from fastreid.config import CfgNode

from icre.config import load_config
from icre.datasets import load_dataset
from icre.datasets.sysu import Permutation, read_permutation
from icre.evaluation.breakdown import by_identity
from icre.evaluation.features import FeatureSet
from icre.evaluation.records import of_whole_training
from icre.evaluation.trials import build_trials
from icre.experiments.ablation.spec import PlannedRun, Spec
from icre.inference.results import Record, read_records
from icre.modeling.losses import LOSS_REGISTRY
from icre.utils.errors import UserError
from icre.utils.files import read_json, replaced
from icre.utils.schema import Closed, Open, parse

_NOT_TRAINED_WITH = ("OUTPUT_DIR", "MODEL.HEADS.NUM_CLASSES")
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


class Identity(Open):
    """Scores of one test identity."""

    pid: float
    queries: float
    rank1: float = Field(alias="Rank-1")
    mAP: float
    mINP: float


class Versions(Open):
    """Of packages."""

    torch: str


class Environment(Open):
    """What tables show of a machine."""

    cpu: str
    gpu: str | None = None
    versions: Versions
    date: str
    precision: str = ""


class _Stored(Closed):
    """The file of a `Result`."""

    config: dict[str, Any]
    record: Record
    identities: list[Identity]
    environment: Environment


class Results:
    """The results of a spec's runs under its protocol, in a folder of records.

    Args:
        spec: its protocol and draw are read.
        folder: of the records.
    """

    def __init__(self, spec: Spec, folder: Path):
        self.spec, self.folder = spec, folder

    def find(self, run: PlannedRun) -> Result | None:
        """The run's result, or None if there is no record of it.

        Raises:
            UserError: the file is damaged, or holds another config.
        """
        path = self.path(run)
        if not path.is_file():
            return None
        try:
            content = read_json(path)
            parse(_Stored, content, "it")
        except UserError as error:
            raise UserError(f"{path} is no result of a training ({error}): remove it") from None
        result = Result(**content)
        if result.config != trained_config(run):
            raise UserError(f"{path} holds the result of another config: remove it")
        return result

    def collect(self, run: PlannedRun) -> None:
        """Write the run's record, if the run has finished in its folder.

        Raises:
            UserError: the folder holds another run, one that was not scored under the spec's
                protocol, or one without environment.json.
        """
        if not is_finished(run):
            return
        features = FeatureSet.load(run.files.features())
        data, (setting,) = build_trials(
            features, [self.spec.protocol], self.spec.draw, self._permutation(run)
        )
        identities = [
            {key: round(value, _DIGITS) for key, value in one.items()}
            for one in by_identity(data, setting)
        ]
        result = Result(trained_config(run), self._record(run), identities, _environment(run))
        with replaced(self.path(run)) as file:
            file.write_text(json.dumps(asdict(result)) + "\n")

    def path(self, run: PlannedRun) -> Path:
        """The record's file, named by a hash of config, protocol and draw."""
        words = json.dumps([trained_config(run), self.spec.protocol, self.spec.draw])
        return self.folder / f"{hashlib.sha256(words.encode()).hexdigest()[:16]}.json"

    def _permutation(self, run: PlannedRun) -> Permutation | None:
        data = load_dataset(run.cfg, run.cfg.DATASETS.TESTS[0])
        official = self.spec.draw == "official" and getattr(data, "permutation_file", None)
        return read_permutation(official) if official else None

    def _record(self, run: PlannedRun) -> dict[str, Any]:
        """The run's record under the spec's protocol, not re-ranked."""
        wanted = (self.spec.protocol, self.spec.draw, None)
        for record in read_records(run.files.metrics):
            if (record["protocol"], record["draw"], record["rerank"]) == wanted:
                return record
        raise UserError(
            f"{run.files.metrics} has no record of {self.spec.protocol}, draw {self.spec.draw}: "
            "set the spec's protocol and draw to one of the data set"
        )


def is_finished(run: PlannedRun) -> bool:
    """Whether the run's folder holds metrics and features of its whole training.

    Raises:
        UserError: the folder holds a run of another config.
    """
    files = run.files
    if not files.config.is_file():
        return False
    # fast-reid writes the number of classes that it found into the saved config
    classes = str(run.cfg.MODEL.HEADS.NUM_CLASSES)
    options = ["OUTPUT_DIR", str(files.path), "MODEL.HEADS.NUM_CLASSES", classes]
    for key, was, now in differences(load_config(str(files.config), options), run.cfg):
        raise UserError(
            f"{files.path} holds a run of another config ({key} was {was!r}, is {now!r}): remove "
            "it, or name another --out"
        )
    if not (files.metrics.is_file() and files.features().is_file()):
        return False
    return of_whole_training(read_records(files.metrics), run.cfg)


def differences(old: CfgNode, new: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted key, old and new value, of each value that differs; None for a key that is new."""
    for key, value in new.items():
        if isinstance(value, CfgNode):
            yield from differences(old.get(key, CfgNode()), value, f"{prefix}{key}.")
        elif key not in old or old[key] != value:
            yield f"{prefix}{key}", old.get(key), value


def trained_config(run: PlannedRun) -> dict[str, Any]:
    """The config's differences from the defaults, in JSON's types, as far as training reads them.

    Without the settings of this project's losses that MODEL.LOSSES.NAME leaves out (fast-reid's
    are kept, as other losses read CE's), and the learning rate of modules that are off.
    """
    model = run.cfg.MODEL
    unused = tuple(
        f"MODEL.LOSSES.{loss.node}."
        for name, loss in registered(LOSS_REGISTRY).items()
        if hasattr(loss, "node") and name not in model.LOSSES.NAME
    )
    if not (model.MPFR.ENABLED or model.SDCE.ENABLED):
        unused += ("SOLVER.ENHANCE_LR_FACTOR",)
    changed = {
        key: value
        for key, _, value in differences(_defaults(), run.cfg)
        if key not in _NOT_TRAINED_WITH and not key.startswith(unused)
    }
    return json.loads(json.dumps(dict(sorted(changed.items()))))


@functools.cache
def _defaults() -> CfgNode:
    return load_config()


def _environment(run: PlannedRun) -> dict[str, Any]:
    path = run.files.environment
    if not path.is_file():
        raise UserError(f"{path} is missing (an older version trained this run): remove its folder")
    found = read_json(path)
    try:
        parse(Environment, found, str(path))
    except UserError as error:
        raise UserError(f"{error}; it is no record of a machine: remove its folder") from None
    return found
