"""The files of a run folder (OUTPUT_DIR): their names, and which checkpoint is the run's result."""

from dataclasses import dataclass
from pathlib import Path

from icre.utils.errors import UserError
from icre.utils.yaml import read_yaml


@dataclass(frozen=True)
class RunFolder:
    """Paths in a run folder. Only the names are known here; the files need not exist.

    Args:
        path: the folder.
    """

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def config(self) -> Path:
        """The full config, YAML."""
        return self.path / "config.yaml"

    @property
    def log(self) -> Path:
        """The text log."""
        return self.path / "log.txt"

    @property
    def scalars(self) -> Path:
        """Losses, learning rate and scores over the steps, one JSON object a line."""
        return self.path / "scalars.json"

    @property
    def environment(self) -> Path:
        """Machine, versions, precision and date of the training."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """Result records of the test set."""
        return self.path / "metrics.json"

    @property
    def validation(self) -> Path:
        """Result records of the validation identities, of every scored epoch."""
        return self.path / "validation.json"

    @property
    def trackers(self) -> Path:
        """Ids of the training's runs in the services that TRACKERS names."""
        return self.path / "trackers.json"

    @property
    def final(self) -> Path:
        """Checkpoint after the last epoch."""
        return self.path / "model_final.pth"

    @property
    def best(self) -> Path:
        """Checkpoint that was best on the validation identities (DATASETS.VALIDATION)."""
        return self.path / "model_best.pth"

    def features(self, dataset: str = "") -> Path:
        """Test features; `dataset` is its name where several are tested."""
        return self.path / f"features{dataset and f'_{dataset}'}.npz"

    def ranking(self, dataset: str = "") -> Path:
        """Picture of ranking lists; `dataset` as in `features`."""
        return self.path / f"ranking{dataset and f'_{dataset}'}.png"

    @property
    def result(self) -> Path:
        """What `metrics` are of: `best` with DATASETS.VALIDATION, else `final`; may not exist."""
        stored = read_yaml(self.config) if self.config.is_file() else None
        datasets = stored.get("DATASETS") if isinstance(stored, dict) else None
        chosen = isinstance(datasets, dict) and datasets.get("VALIDATION", False)
        return self.best if chosen else self.final

    @property
    def weights(self) -> Path:
        """The checkpoint that `metrics` are of.

        Raises:
            UserError: it does not exist.
        """
        weights = self.result
        if not weights.is_file():
            raise UserError(
                f"run {self.path} has no {weights.name}: let it finish (train_net.py --resume), or "
                "name one of its checkpoints"
            )
        return weights
