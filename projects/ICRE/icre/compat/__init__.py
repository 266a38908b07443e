"""What keeps fastreid 1.4.0 (2023) working on current Python and torch.

Import this package before any `fastreid` module, and `icre.compat.evaluation` before
`fastreid.evaluation` or `fastreid.engine` (those import scikit-learn, which inference does not
need). No file of fast-reid is edited; each patch names the file and line it works round. What a
subclass or an argument can mend is mended there (see `icre.engine`).
"""

import importlib.metadata
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FASTREID_VERSION = "1.4.0"
STOCK_ARCHITECTURES = ("Baseline", "MGN", "MoCo", "Distiller")  # fast-reid's own
INSTALL_COMMAND = f"pip install --no-deps fastreid=={FASTREID_VERSION}"


def check_version() -> None:
    """Raise ImportError with the command to run unless fast-reid 1.4.0 is installed.

    The wheel's metadata decides: `fastreid.__version__` still says 1.3 (fastreid/__init__.py:8).
    """
    try:
        found = importlib.metadata.version("fastreid")
    except importlib.metadata.PackageNotFoundError:
        text = f"fastreid is not installed. Run: {INSTALL_COMMAND}"
        raise ImportError(text, name="fastreid") from None
    if found.split("+")[0] != FASTREID_VERSION:
        raise ImportError(
            f"fastreid {found} is installed, icre needs {FASTREID_VERSION}. Run: {INSTALL_COMMAND}",
            name="fastreid",
        )


@contextmanager
def removed_names() -> Iterator[None]:
    """Lend fast-reid two names that Python and torch have dropped, while it is being imported.

    - `torch._six.string_classes`: fastreid/data/build.py:10
    - `collections.Mapping`: fastreid/data/build.py:11 and fastreid/evaluation/testing.py:5
    """
    import collections
    import collections.abc

    six = types.ModuleType("torch._six")
    vars(six)["string_classes"] = (str, bytes)
    lend_six = "torch._six" not in sys.modules
    lend_mapping = not hasattr(collections, "Mapping")
    if lend_six:
        sys.modules["torch._six"] = six
    if lend_mapping:
        vars(collections)["Mapping"] = collections.abc.Mapping
    try:
        yield
    finally:
        if lend_six:
            del sys.modules["torch._six"]
        if lend_mapping:
            del vars(collections)["Mapping"]


def registered(registry: Any) -> dict[str, Any]:
    """Name -> object of a `fastreid.utils.registry.Registry`, which has no public way to list them
    (fastreid/utils/registry.py:30)."""
    return dict(registry._obj_map)


def is_two_stream(architecture: type) -> bool:
    """Whether a meta-architecture needs the modality of each image.

    fast-reid's own do not. Any other class says so in its attribute `two_stream`; it does where it
    has none.
    """
    return getattr(architecture, "two_stream", architecture.__name__ not in STOCK_ARCHITECTURES)


def _silence() -> None:
    """Keep fastreid/data/transforms/functional.py:46 from warning of TypedStorage per worker."""
    warnings.filterwarnings("ignore", message="TypedStorage is deprecated", category=UserWarning)


def _apply() -> None:
    check_version()
    with removed_names():
        import fastreid.data.build  # noqa: F401
    _silence()


_apply()
