"""What a run's folder or a checkpoint stands for: its weights and its config."""

import tempfile
from pathlib import Path

import yaml

from icre.engine.checkpoint import read_checkpoint
from icre.inference.embedder import Embedder, read_config
from icre.utils.errors import UserError


def open_saved(path: str | Path, *options: str, config_file: str | Path | None = None) -> Embedder:
    """The model of a finished run, or of a checkpoint.

    Args:
        path: a run's folder (OUTPUT_DIR), whose result is `model_best.pth` where
            DATASETS.VALIDATION chose an epoch and `model_final.pth` else; or a checkpoint.
        options: KEY VALUE pairs over the config.
        config_file: default: the config that the checkpoint carries, else the `config.yaml` that
            lies beside it.

    Raises:
        UserError: there is no checkpoint, no config, or they do not fit each other.
    """
    weights = find_weights(path)
    with tempfile.TemporaryDirectory() as folder:
        if config_file is None and (carried := read_checkpoint(weights).get("config")):
            config_file = Path(folder) / "config.yaml"
            config_file.write_text(carried)
        if config_file is None:
            config_file = weights.with_name("config.yaml")
            if not config_file.is_file():
                raise UserError(
                    f"checkpoint {weights} carries no config: put the model's config.yaml beside it"
                )
        return Embedder(read_config(config_file, *options), weights)


def find_weights(path: str | Path) -> Path:
    """The checkpoint that is a run's result, or `path` itself where it is a file."""
    path = Path(path)
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"{path} is missing: name a run's folder or a checkpoint")
    config = path / "config.yaml"
    stored = yaml.safe_load(config.read_text()) if config.is_file() else {}
    chosen = (stored or {}).get("DATASETS", {}).get("VALIDATION", False)
    weights = path / ("model_best.pth" if chosen else "model_final.pth")
    if not weights.is_file():
        raise UserError(
            f"run {path} has no {weights.name}: let it finish (train_net.py --resume), "
            "or name one of its checkpoints"
        )
    return weights
