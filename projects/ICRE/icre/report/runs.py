"""What a report reads of a run's folder; each part may be missing, and then says so."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

import icre.compat

from fastreid.config import CfgNode

import icre.engine  # noqa: F401
from icre.data.loader import load_dataset
from icre.config import load_config
from icre.evaluation.features import FeatureSet
from icre.evaluation.plan import Setting, prepare
from icre.plots.curves import Scalars, read_scalars
from icre.report.figures import sources
from icre.report.page import note
from icre.utils.errors import UserError


@dataclass(frozen=True)
class Run:
    """A run's folder; what is missing raises a UserError when it is asked for.

    Args:
        name: for the report.
        folder: with config.yaml.
        device: to compute on.
        root: DATASETS.ROOT, where it is not the run's.
    """

    name: str
    folder: Path
    device: str = "auto"
    root: str | None = None

    @cached_property
    def cfg(self) -> CfgNode:
        """The config, without pretrained weights."""
        root = ["DATASETS.ROOT", self.root] if self.root else []
        return sources.run_config(self.folder, "MODEL.DEVICE", self.device, *root)

    @cached_property
    def settings(self) -> dict[str, str]:
        """Dotted key -> value as text, as the run has written it."""
        return flat(yaml.safe_load((self.folder / "config.yaml").read_text()))

    @cached_property
    def changed(self) -> dict[str, str]:
        """Those of `settings` that are not the default."""
        defaults = flat(yaml.safe_load(load_config().dump()))
        return {key: value for key, value in self.settings.items() if defaults.get(key) != value}

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """Result records."""
        file = self.folder / "metrics.json"
        if not file.is_file():
            raise UserError(f"{self.name} has no metrics.json: it has not been scored")
        try:
            return json.loads(file.read_text())
        except ValueError as error:
            raise UserError(f"{file}: no JSON ({error})") from None

    @cached_property
    def features(self) -> FeatureSet:
        """Features of the test images, in `FeatureSet.ordered`'s order."""
        if not (self.folder / "features.npz").is_file():
            raise UserError(f"{self.name} has no features.npz: it has not been scored")
        return FeatureSet.load(self.folder).ordered()

    @cached_property
    def scalars(self) -> Scalars:
        """What was logged while it trained."""
        return read_scalars(self.folder / "scalars.json")

    @cached_property
    def data(self):
        """The data set that it is tested on."""
        return load_dataset(self.cfg, self.cfg.DATASETS.TESTS[0])

    @cached_property
    def permutation(self) -> Path | None:
        """The official draw's file, where the data set is there and has one."""
        try:
            folder = getattr(self.data, "folder", None)
        except UserError:
            return None
        file = folder and folder / "exp" / "rand_perm_cam.mat"
        return file if file and file.is_file() else None


@dataclass(frozen=True)
class Options:
    """What is asked of a report.

    Args:
        protocol, draw: of everything but the table of results; None: the data set's first, and
            the official draw where its file is there.
        seed: of the choice of people, and of t-SNE.
    """

    protocol: str | None = None
    draw: str | None = None
    seed: int = 0

    def setting(self, run: Run) -> Setting:
        """The protocol made concrete on the run's features."""
        return prepare(run.features, self.protocol and [self.protocol], self.draw, run.permutation)[
            1
        ][0]


def gather(runs: Sequence[Run], part: str) -> tuple[dict[str, Any], str]:
    """A property of all runs that have it, by name, and HTML that says which have it not."""
    found, missing = {}, []
    for run in runs:
        try:
            found[run.name] = getattr(run, part)
        except UserError as error:
            missing.append(note(str(error)))
    return found, "".join(missing)


def open_runs(
    folders: Sequence[str], names: Sequence[str] | None, device: str, root: str | None
) -> list[Run]:
    """The runs; a UserError where a folder is none of a run, or two names are the same."""
    runs = [Run(name, Path(at), device, root) for name, at in sources.named(folders, names).items()]
    for run in runs:
        run.cfg  # noqa: B018  (refuses what is no run)
    return runs


def flat(node: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested config as dotted key -> text."""
    found: dict[str, str] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            found[prefix + key] = text
    return found
