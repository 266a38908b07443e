"""ICRE: visible-infrared person re-identification as a fast-reid project (arXiv 2512.04522).

What stands in `__all__` works without a config, in a training loop or a notebook of your own:

    losses                   losses on (features, labels, modalities), such as `losses.PullPush`
    IdentityBatchSampler     batches of P identities x (K visible + K infrared) images
    FeatureSet               features of a test set, from arrays or a file
    score, compare, rerank   test protocols, a paired bootstrap, k-reciprocal re-ranking
    Bootstrap, Reranking     settings of `compare`, and of re-ranking in `score`
    load                     a trained model as a function of images
    UserError                what all of them raise on bad input: a ValueError of one line

Importing this package is cheap and registers nothing: each name is imported when it is first used.
`icre.config.load_config` imports what fast-reid has to find in its registries.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; `_HOMES` is what Python sees
    from icre.data.sampler import IdentityBatchSampler as IdentityBatchSampler
    from icre.evaluation.compare import Bootstrap as Bootstrap
    from icre.evaluation.compare import compare as compare
    from icre.evaluation.features import FeatureSet as FeatureSet
    from icre.evaluation.rerank import rerank as rerank
    from icre.evaluation.rerank_options import Reranking as Reranking
    from icre.evaluation.score import score as score
    from icre.inference.predictor import load as load
    from icre.modeling import losses as losses
    from icre.utils.errors import UserError as UserError

__version__ = "0.2.0"

# public name -> the module that it is in
_HOMES = {
    "IdentityBatchSampler": "icre.data.sampler",
    "Bootstrap": "icre.evaluation.compare",
    "FeatureSet": "icre.evaluation.features",
    "Reranking": "icre.evaluation.rerank_options",
    "UserError": "icre.utils.errors",
    "compare": "icre.evaluation.compare",
    "load": "icre.inference.predictor",
    "losses": "icre.modeling",
    "rerank": "icre.evaluation.rerank",
    "score": "icre.evaluation.score",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'icre' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "importlib"})
