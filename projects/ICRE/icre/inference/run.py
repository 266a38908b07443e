"""Runs and checkpoints from disk: a run folder's config, results and features, and its model."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.config import load_config
from icre.datasets import load_dataset
from icre.evaluation.features import FeatureSet
from icre.inference.extractor import FeatureExtractor, read_config
from icre.inference.results import Scalars, read_records, read_scalars
from icre.inference.shipped import find_weights
from icre.runs.checkpoint import read_checkpoint
from icre.runs.public import SOURCES, read_public
from icre.utils.choice import pick
from icre.utils.errors import UserError
from icre.utils.run_folder import RunFolder
from icre.utils.yaml import leaves, parse_yaml, read_mapping


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
    path: str | Path,
    *options: str,
    config_file: str | Path | None = None,
    trust_imports: bool = False,
    source: str = "",
) -> FeatureExtractor:
    """Load the model of a finished run or of a checkpoint; see `find_model`.

    Args:
        source: name of `icre.runs.public.SOURCES`: `path` is what that code's training wrote.
    """
    if source:
        return FeatureExtractor(public_config(path, source, *options), path, source)
    return FeatureExtractor(
        *find_model(path, *options, config_file=config_file, trust_imports=trust_imports)
    )


def public_config(path: str | Path, source: str, *options: str) -> CfgNode:
    """Config of the network that a public code's checkpoint is of, with `options` over it."""
    words, _ = read_public(path, pick("source", source, SOURCES))
    return read_config("", *words, *options)


def find_model(
    path: str | Path,
    *options: str,
    config_file: str | Path | None = None,
    trust_imports: bool = False,
) -> tuple[CfgNode, Path]:
    """Resolve a run folder or a checkpoint to config and weights.

    Args:
        path: a run folder (its `RunFolder.weights`), a checkpoint file, or a shipped model's name.
        options: KEY VALUE pairs over the config.
        config_file: default: the config that the checkpoint carries, else the `config.yaml` beside
            it.
        trust_imports: import the modules that the checkpoint's config names (IMPORTS). Those of
            `config_file` are always imported.

    Raises:
        UserError: there is no checkpoint or no config, or its modules are needed and not trusted.
    """
    path = find_weights(path)
    if not path.exists():
        raise UserError(f"{path} is missing: name a run's folder or a checkpoint")
    weights = RunFolder(path).weights if path.is_dir() else path
    carried = "" if config_file else read_checkpoint(weights).get("config", "")
    if carried:
        return read_config("", *options, text=carried, trust_imports=trust_imports), weights
    beside = RunFolder(weights.parent).config
    if not config_file and not beside.is_file():
        raise UserError(
            f"checkpoint {weights} carries no config: put the model's config.yaml beside it"
        )
    trusted = trust_imports or bool(config_file)
    return read_config(config_file or beside, *options, trust_imports=trusted), weights


def flatten(node: dict[str, Any]) -> dict[str, str]:
    """Nested config -> {dotted key: value as text}."""
    return {
        key: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for key, value in leaves(node)
    }
