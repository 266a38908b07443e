"""The one fence between this project and fast-reid's age (fastreid 1.4.0, last changed in 2023).

Import this module before any `fastreid` module. It edits no file of fast-reid; each patch below
names the file and line it works round. What can be mended by a subclass or an argument is mended
there (see `icre.engine`), so that this list stays as short as it can be.
"""

import importlib.metadata
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

FASTREID_VERSION = "1.4.0"
INSTALL_COMMAND = f"pip install --no-deps fastreid=={FASTREID_VERSION}"


def check_version() -> None:
    """Raise ImportError with the mending command unless fast-reid 1.4.0 is installed.

    The wheel's metadata decides: `fastreid.__version__` still says 1.3 (fastreid/__init__.py:8).
    """
    try:
        found = importlib.metadata.version("fastreid")
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"fastreid is not installed. Run: {INSTALL_COMMAND}") from None
    if found.split("+")[0] != FASTREID_VERSION:
        raise ImportError(
            f"fastreid {found} is installed, icre needs {FASTREID_VERSION}. Run: {INSTALL_COMMAND}"
        )


@contextmanager
def _removed_names() -> Iterator[None]:
    """Lend fast-reid two names that Python and torch have dropped, while it is being imported.

    - `torch._six.string_classes`: fastreid/data/build.py:10
    - `collections.Mapping`: fastreid/data/build.py:11 and fastreid/evaluation/testing.py:5
    """
    import collections
    import collections.abc

    six = types.ModuleType("torch._six")
    six.string_classes = (str, bytes)
    lend_six = "torch._six" not in sys.modules
    lend_mapping = not hasattr(collections, "Mapping")
    if lend_six:
        sys.modules["torch._six"] = six
    if lend_mapping:
        collections.Mapping = collections.abc.Mapping
    try:
        yield
    finally:
        if lend_six:
            del sys.modules["torch._six"]
        if lend_mapping:
            del collections.Mapping


def _skip_compiler() -> None:
    """Let ReidEvaluator start without running `make` inside site-packages.

    fastreid/evaluation/reid_evaluation.py:128 compiles a Cython ranking on first use and ends the
    process where there is no compiler; its NumPy ranking gives the same numbers.
    """
    from fastreid.evaluation import ReidEvaluator

    ReidEvaluator._compile_dependencies = lambda self: None


def replace_jaccard(jaccard: Callable) -> None:
    """Let ReidEvaluator re-rank by `jaccard(query, gallery, k1, k2) -> (Q, G)`.

    fastreid/utils/compute_dist.py:54 searches by GPU functions that current faiss lacks, and makes
    matrices of all images by all images to return the part of the queries and the gallery.
    """
    from fastreid.evaluation import reid_evaluation
    from fastreid.utils import compute_dist

    def build_dist(feat_1, feat_2, metric="euclidean", **kwargs):
        if metric == "jaccard":
            return jaccard(feat_1, feat_2, kwargs["k1"], kwargs["k2"])
        return compute_dist.build_dist(feat_1, feat_2, metric, **kwargs)

    reid_evaluation.build_dist = build_dist


def registered(registry: Any) -> dict[str, Any]:
    """Name -> object of a `fastreid.utils.registry.Registry`, which has no public way to list them
    (fastreid/utils/registry.py:30)."""
    return dict(registry._obj_map)


def _silence() -> None:
    """Keep fastreid/data/transforms/functional.py:46 from warning of TypedStorage per worker."""
    warnings.filterwarnings("ignore", message="TypedStorage is deprecated", category=UserWarning)


def _apply() -> None:
    check_version()
    with _removed_names():
        import fastreid.data.build
        import fastreid.evaluation.testing  # noqa: F401
    _skip_compiler()
    _silence()


_apply()
