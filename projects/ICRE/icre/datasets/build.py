"""A registered data set from a config."""

import contextlib
import os
from typing import Any

import icre.compat  # noqa: F401
from icre.compat import registered

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY

from icre.datasets.base import VisibleInfraredSet
from icre.utils.errors import UserError


def load_dataset(cfg: CfgNode, name: str, validation: bool = False) -> Any:
    """The registered data set `name` under DATASETS.ROOT.

    Args:
        cfg: DATASETS.* is read.
        name: as registered.
        validation: hold out training identities in place of the test ones.

    Raises:
        UserError: unknown name (lists the known), or what the data set is missing.
    """
    known = registered(DATASET_REGISTRY)
    if name not in known:
        raise UserError(f"DATASETS: unknown data set {name!r}; known: {', '.join(sorted(known))}")
    dataset = known[name]
    options = {"combineall": True} if cfg.DATASETS.COMBINEALL else {}
    if issubclass(dataset, VisibleInfraredSet):
        return dataset.from_config(cfg, validation=validation, **options)
    if validation:
        raise UserError(f"DATASETS.VALIDATION: {name} has no held-out identities; set it False")
    return _load_foreign(dataset, name, cfg.DATASETS.ROOT, options)


def name_in_features(data: Any) -> str:
    """The data set that files of features and records name; empty: their paths tell its layout."""
    return getattr(data, "name_in_features", "")


def _load_foreign(dataset: type, name: str, root: str, options: dict[str, Any]) -> Any:
    """A data set of fast-reid's, or one registered with it, with all of its lists read.

    fast-reid's own look for labels and wildcards in the whole path of an image
    (fastreid/data/datasets/market1501.py:76), so they are read from within the root.

    Raises:
        UserError: names the file or folder that the data set's class cannot read.
    """
    if not os.path.isdir(root):
        raise UserError(f"DATASETS.ROOT: folder {root} is missing: unpack {name} below it")
    own = dataset.__module__.startswith("fastreid.")
    try:
        with contextlib.chdir(root) if own else contextlib.nullcontext():
            data = dataset(root="." if own else root, **options)
            lists = data.train, data.query, data.gallery
    except UserError:
        raise
    except Exception as error:  # each class raises its own kinds
        raise UserError(_refusal(name, root, error)) from error
    if own:
        train, query, gallery = ([_below(root, item) for item in items] for items in lists)
        data._train, data._query, data._gallery = train, query, gallery
        data.data = train
    return data


def _below(root: str, item: tuple) -> tuple:
    return (os.path.join(root, item[0].removeprefix("./")), *item[1:])


def _refusal(name: str, root: str, error: Exception) -> str:
    """One line on an error of a data set's class, with the image that it was reading."""
    image, frame = None, error.__traceback__
    while frame:
        image = frame.tb_frame.f_locals.get("img_path", image)
        frame = frame.tb_next
    text = " ".join(str(error).split()).replace('"./', f'"{root.rstrip("/")}/')[:200]
    if isinstance(image, str):
        return (
            f"data set {name}: the name of {os.path.join(root, image.removeprefix('./'))} is not "
            f"one of its images', or names an identity or camera that it cannot have "
            f"({type(error).__name__}{text and f': {text}'}): correct it, or move it away"
        )
    return f"data set {name} below DATASETS.ROOT {root}: {type(error).__name__}: {text}"
