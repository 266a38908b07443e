"""Runs and checkpoints from disk: a run folder's config, results and features, and its model."""

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.config import load_config
from icre.datasets import load_dataset
from icre.engine.checkpoint import read_checkpoint
from icre.evaluation.features import FeatureSet
from icre.evaluation.records import METRICS
from icre.inference.extractor import FeatureExtractor, read_config
from icre.utils.errors import UserError
from icre.utils.run_folder import RunFolder
from icre.utils.yaml import parse_yaml, read_mapping

Scalars = dict[str, tuple[list[int], list[float]]]  # name -> (iterations, values)


class Run:
    """A run folder. Each part is read when it is first used; a missing one raises UserError.

    Args:
        path: the folder (OUTPUT_DIR), with config.yaml.
        name: for tables and figures; default: the folder's name.
        device: MODEL.DEVICE of `cfg` and `model`.
        root: DATASETS.ROOT, if it is not the one in the run's config.
    """

    def __init__(
        self,
        path: str | Path,
        name: str | None = None,
        device: str = "auto",
        root: str | Path | None = None,
    ):
        self.files = RunFolder(Path(path))
        self.name = name or self.files.path.resolve().name
        self._options = ["MODEL.DEVICE", device]
        self._options += ["DATASETS.ROOT", str(root)] if root else []

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.files.path

    @cached_property
    def cfg(self) -> CfgNode:
        """The config, without pretrained weights, on `device` and `root`."""
        self._require_config()
        return read_config(self.files.config, *self._options)

    @cached_property
    def settings(self) -> dict[str, str]:
        """Dotted key -> value as text, as written in config.yaml."""
        self._require_config()
        return flatten(read_mapping(self.files.config, "it is no config of a run"))

    @cached_property
    def changed(self) -> dict[str, str]:
        """The `settings` that differ from the defaults."""
        defaults = flatten(parse_yaml(load_config().dump(), "defaults"))
        return {key: value for key, value in self.settings.items() if defaults.get(key) != value}

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """Result records of the test set."""
        file = self.files.metrics
        if not file.is_file():
            raise UserError(f"{self.name} has no {file.name}: it has not been scored")
        return read_records(file)

    @cached_property
    def features(self) -> FeatureSet:
        """Features of the test images, in the order of `FeatureSet.ordered`."""
        file = self.files.features()
        if not file.is_file():
            raise UserError(f"{self.name} has no {file.name}: it has not been scored")
        return FeatureSet.load(file).ordered()

    @cached_property
    def scalars(self) -> Scalars:
        """Losses, learning rate and scores that were logged during training."""
        return read_scalars(self.files.scalars)

    @cached_property
    def dataset(self):
        """The test data set, DATASETS.TESTS[0]."""
        return load_dataset(self.cfg, self.cfg.DATASETS.TESTS[0])

    @cached_property
    def images(self) -> frozenset[str]:
        """Paths of the test images."""
        return frozenset(item[0] for item in self.dataset.query + self.dataset.gallery)

    @cached_property
    def permutation_file(self) -> Path | None:
        """The official gallery sampling's file; None without the data set, or if it has none."""
        try:
            file = getattr(self.dataset, "permutation_file", None)
        except UserError:
            return None
        return file if file and file.is_file() else None

    @property
    def weights(self) -> Path:
        """The checkpoint that `records` and `features` are of."""
        return self.files.weights

    def model(self) -> FeatureExtractor:
        """The model with `weights`, loaded anew at each call."""
        return open_model(self.folder, *self._options)

    def _require_config(self) -> None:
        if not self.files.config.is_file():
            raise UserError(f"{self.folder} is no run's folder: it has no {self.files.config.name}")


def open_runs(
    folders: Sequence[str],
    names: Sequence[str] | None = None,
    device: str = "auto",
    root: str | Path | None = None,
) -> list[Run]:
    """Runs with distinct names; `device` and `root` as in `Run`.

    Raises:
        UserError: a folder without config.yaml, another number of names, or equal names.
    """
    named = name_sources(folders, names)
    runs = [Run(folder, name, device, root) for name, folder in named.items()]
    for run in runs:
        run.cfg  # noqa: B018  (reads and checks it)
    return runs


def name_sources(sources: Sequence[str], names: Sequence[str] | None = None) -> dict[str, str]:
    """Name -> source (run folder or file), in order; default: the name of each folder or file.

    Raises:
        UserError: another number of names, or equal names.
    """
    names = names or [_default_name(Path(source).resolve()) for source in sources]
    if len(names) != len(sources):
        raise UserError(f"--names: {len(names)} for {len(sources)} models")
    if len(set(names)) < len(names):
        raise UserError(f"--names: {', '.join(names)} are not all different, name the models")
    return dict(zip(names, sources))


def _default_name(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def open_model(
    path: str | Path, *options: str, config_file: str | Path | None = None
) -> FeatureExtractor:
    """Load the model of a finished run or of a checkpoint; see `find_model`."""
    return FeatureExtractor(*find_model(path, *options, config_file=config_file))


def find_model(
    path: str | Path, *options: str, config_file: str | Path | None = None
) -> tuple[CfgNode, Path]:
    """Resolve a run folder or a checkpoint to config and weights.

    Args:
        path: a run folder (its `RunFolder.weights`), or a checkpoint file.
        options: KEY VALUE pairs over the config.
        config_file: default: the config that the checkpoint carries, else the `config.yaml` beside
            it.

    Raises:
        UserError: there is no checkpoint or no config.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} is missing: name a run's folder or a checkpoint")
    weights = RunFolder(path).weights if path.is_dir() else path
    carried = "" if config_file else read_checkpoint(weights).get("config", "")
    if carried:
        options = (*options, "MODEL.BACKBONE.PRETRAIN", "False")
        return load_config(options=options, text=carried), weights
    beside = RunFolder(weights.parent).config
    if not config_file and not beside.is_file():
        raise UserError(
            f"checkpoint {weights} carries no config: put the model's config.yaml beside it"
        )
    return read_config(config_file or beside, *options), weights


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Read result records, such as a run's metrics.json; see `icre.evaluation.records`.

    Raises:
        UserError: no JSON, or names the record and the field that is missing or of another type.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise UserError(f"{path}: no list of result records")
    for number, one in enumerate(records, start=1):
        check_record(one, f"{path}: record {number}")
    return records


def check_record(record: Any, where: str) -> None:
    """Raise UserError, which begins with `where`, unless this is a result record."""
    if not isinstance(record, dict):
        raise UserError(f"{where} is no result record")
    for field, valid in _RECORD.items():
        if field not in record or not valid(record[field]):
            raise UserError(f"{where} has {'a wrong' if field in record else 'no'} {field}")


def _is_count(value: Any) -> bool:
    return type(value) is int


def _is_rerank(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and {"algorithm", "k1", "k2", "lambda"} <= set(value)
        and all(isinstance(one, str | int | float | None) for one in value.values())
    )


def _is_metric(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("mean")) in (int, float)
        and type(value.get("std")) in (int, float, type(None))
    )


# field -> whether a value has its type; those that tables and figures read
_RECORD: dict[str, Callable[[Any], bool]] = {
    "protocol": lambda value: isinstance(value, str),
    "draw": lambda value: isinstance(value, str | None),
    "split": lambda value: isinstance(value, int | None),
    "rerank": _is_rerank,
    "trials": _is_count,
    "valid_queries": _is_count,
    "gallery": lambda value: type(value) in (int, float),
    **dict.fromkeys(METRICS, _is_metric),
}


def read_json(path: str | Path) -> Any:
    """Content of a JSON file; a UserError if it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no JSON ({error})") from None
    except RecursionError:
        raise UserError(f"{path}: no JSON (nested too deeply)") from None


def read_scalars(path: str | Path) -> Scalars:
    """Read a run's scalars.json: name -> (iterations, values), in the order of the file.

    A resumed run repeats steps; the later line counts.

    Raises:
        UserError: no such file, or a line that is no JSON object of numbers with an iteration.
    """
    path, found = Path(path), {}
    if not path.is_file():
        raise UserError(f"{path}: no such file; a run writes it while it trains")
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                step = entry.pop("iteration")
                if type(step) is not int or not 0 <= step < 2**53:
                    raise ValueError
                values = {name: _number(value) for name, value in entry.items()}
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                raise UserError(
                    f"{path}: line {number} is no JSON object of numbers with an iteration"
                ) from None
            for name, value in values.items():
                steps, logged = found.setdefault(name, ([], []))
                while steps and steps[-1] >= step:
                    steps.pop(), logged.pop()
                steps.append(step)
                logged.append(value)
    if not found:
        raise UserError(f"{path} is empty: the run has not logged anything yet")
    return found


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError
    return float(value)


def flatten(node: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested config -> {dotted key: value as text}."""
    found: dict[str, str] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            found[prefix + key] = text
    return found
