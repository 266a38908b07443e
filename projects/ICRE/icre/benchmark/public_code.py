"""Load the modules of a user's clone of public code, without leaving a trace in this process.

Both public loops name their files `model`, `resnet`, `loss`, `utils`: loaded as they are, one
would take the other's. Nothing of that code is part of this project.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

from icre.utils.errors import UserError

MODULES = ("resnet", "model", "loss", "utils", "data_loader")


def load_clone(
    option: str, folder: str | Path, inner: str, extra: tuple[str, ...] = ()
) -> SimpleNamespace:
    """The clone's modules, by name; its networks start from random weights (no download).

    Args:
        option: the command-line option that named the folder, for errors.
        folder: the clone, or the folder in it that holds model.py.
        inner: where model.py lies in the clone ("." for its root).
        extra: modules to load besides MODULES.

    Raises:
        UserError: no model.py there, or it does not import.
    """
    places = [Path(folder) / inner, Path(folder)]
    place = next((one for one in places if (one / "model.py").is_file()), None)
    if place is None:
        raise UserError(f"{option} {folder}: no model.py in {places[0]}; name a clone")
    with _alone(place, MODULES + extra):
        try:
            modules = {"resnet": _without_download(importlib.import_module("resnet"))}
            for name in (*MODULES, *extra):
                modules[name] = importlib.import_module(name)
        except ImportError as error:
            raise UserError(f"{option} {folder}: its code does not import ({error})") from None
    return SimpleNamespace(**modules)


@contextmanager
def _alone(place: Path, names: tuple[str, ...]) -> Iterator[None]:
    """`place` first on sys.path, and the names free; both as before afterwards."""
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(place.resolve()))
    try:
        yield
    finally:
        sys.path.remove(str(place.resolve()))
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(before)


def _without_download(resnet: ModuleType) -> ModuleType:
    """Its resnet50 asks the network for weights; hand out random ones in the same shape."""
    build = resnet.resnet50
    resnet.resnet50 = lambda pretrained=False, **options: build(pretrained=False, **options)
    return resnet
