"""What a figure is drawn from: runs and feature files, found and checked."""

from collections.abc import Sequence
from pathlib import Path

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.data.loader import load_dataset
from icre.evaluation.features import FeatureSet
from icre.inference.embedder import read_config
from icre.utils.errors import UserError


def named(models: Sequence[str], names: Sequence[str] | None) -> dict[str, str]:
    """Name -> model, as they stand on the command line; by default a file's or folder's own name.

    Raises:
        UserError: another number of names, or one name twice.
    """
    names = names or [Path(model).resolve().stem for model in models]
    if len(names) != len(models):
        raise UserError(f"--names: {len(names)} for {len(models)} models")
    if len(set(names)) < len(names):
        raise UserError(f"--names: {', '.join(names)} are not all different, name the models")
    return dict(zip(names, models))


def load_all(models: Sequence[str], names: Sequence[str] | None) -> dict[str, FeatureSet]:
    """Name -> features."""
    return {name: FeatureSet.load(model) for name, model in named(models, names).items()}


def run_config(run: str | Path, *options: str) -> CfgNode:
    """The config that a run has written; a UserError where the folder is none of a run."""
    file = Path(run) / "config.yaml"
    if not file.is_file():
        raise UserError(f"{run} is no run's folder: it has no config.yaml")
    return read_config(file, *options)


def checkpoint_of(run: str | Path) -> Path:
    """A run's checkpoint: model_final.pth, or else the one that last_checkpoint names.

    Raises:
        UserError: there is none.
    """
    run = Path(run)
    tag = run / "last_checkpoint"
    names = ["model_final.pth", *([tag.read_text().strip()] if tag.is_file() else [])]
    for name in names:
        if (run / name).is_file():
            return run / name
    raise UserError(
        f"{run} has no checkpoint: neither {' nor '.join(dict.fromkeys(names))} is there"
    )


def folder_of(features: str | Path, root: Path | None) -> Path:
    """The folder that the paths of features are relative to: `root`, or that of the run's data set.

    Raises:
        UserError: neither is known.
    """
    if root is not None:
        if not root.is_dir():
            raise UserError(f"--root {root}: no such folder")
        return root
    run = Path(features) if Path(features).is_dir() else Path(features).parent
    if not (run / "config.yaml").is_file():
        raise UserError(
            f"{features}: no run, so where its images lie is not known: add --root "
            "DATASET, such as datasets/SYSU-MM01"
        )
    cfg = run_config(run)
    return load_dataset(cfg, cfg.DATASETS.TESTS[0]).folder


def permutation_of(features: str | Path, root: Path | None, perm: str | None) -> Path | None:
    """The official draw's file: `perm`, or that of the data set where it is known and has one."""
    if perm is not None:
        return Path(perm)
    try:
        folder = folder_of(features, root)
    except UserError:
        if root is not None:
            raise
        return None
    file = folder / "exp" / "rand_perm_cam.mat"
    return file if file.is_file() else None
