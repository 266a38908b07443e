"""Evaluators of fast-reid's interface: gather features, and score them by test protocols."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import icre.compat.evaluation

from fastreid.evaluation import DatasetEvaluator
from fastreid.utils import comm

from icre.evaluation.features import FeatureSet
from icre.evaluation.records import METRICS
from icre.evaluation.rerank import jaccard_distance
from icre.evaluation.reranked import Reranker
from icre.evaluation.score import score

# fast-reid's own evaluator re-ranks by our function too.
icre.compat.evaluation.replace_jaccard(jaccard_distance)

_COLUMNS = {"targets": "pids", "camids": "camids", "modalities": "modalities"}


class FeatureCollector(DatasetEvaluator):
    """Gathers the features of one data set, from all ranks.

    Args:
        root: the data set's folder; image paths are taken relative to it.
        dataset: see FeatureSet.

    After `evaluate`, on the first rank: `features`, a FeatureSet.
    """

    def __init__(self, root: Path, dataset: str = ""):
        self.root = root
        self.dataset = dataset
        self.reset()

    def reset(self) -> None:
        """Forget what was gathered."""
        self._parts: list[dict] = []
        self.features: FeatureSet | None = None

    def process(self, inputs: dict, outputs: torch.Tensor) -> None:
        """Keep a batch's features (B, D) and what the batch says of its images."""
        part = {name: inputs[key].cpu().numpy() for key, name in _COLUMNS.items()}
        paths = [Path(path).relative_to(self.root).as_posix() for path in inputs["img_paths"]]
        self._parts.append({**part, "features": outputs.float().cpu().numpy(), "paths": paths})

    def evaluate(self) -> OrderedDict:
        """Join what all ranks gathered; an empty result, as nothing is scored."""
        gathered = comm.gather(self._parts)
        if comm.is_main_process():
            parts = list(itertools.chain.from_iterable(gathered))
            columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            self.features = FeatureSet(**columns, dataset=self.dataset)
        return OrderedDict()


class ProtocolEvaluator(FeatureCollector):
    """Scores every protocol from features that are gathered once.

    Args:
        root, dataset: see FeatureCollector.
        protocols: names, or empty for the data set's own list.
        permutation_file: the official gallery sampling; used if the file exists.
        device: where to rank.
        reranker: score re-ranked distances too.
        labels: more fields of the records (seed, epoch, flip, split).

    After `evaluate`, on the first rank: `features`, and `records` (list of records).
    """

    def __init__(
        self,
        root: Path,
        protocols: Sequence[str] = (),
        permutation_file: Path | None = None,
        device: str | torch.device = "cpu",
        reranker: Reranker | None = None,
        dataset: str = "",
        **labels,
    ):
        super().__init__(root, dataset)
        self.protocols = list(protocols) or None
        found = permutation_file is not None and permutation_file.is_file()
        self.permutation_file = permutation_file if found else None
        self.device = device
        self.reranker = reranker
        self.labels = labels

    def reset(self) -> None:
        """Forget what was gathered and scored."""
        super().reset()
        self.records: list[dict] = []

    def evaluate(self) -> OrderedDict:
        """Score, on the first rank.

        Returns:
            {"<protocol>/<draw>/<metric>": mean in percent} for fast-reid's event storage, the
            re-ranked ones as "<protocol>/<draw>/rerank/<metric>", and `metric`, the mean of Rank-1
            and mAP of the first record, which is a plain one; empty on other ranks.
        """
        super().evaluate()
        if self.features is None:
            return OrderedDict()
        self.records = score(
            self.features,
            self.protocols,
            perm=self.permutation_file,
            device=self.device,
            reranker=self.reranker,
            **self.labels,
        )
        results = OrderedDict(metric=metric(self.records))
        for record in self.records:
            rerank = record["rerank"] and "rerank"
            setting = "/".join(filter(None, (record["protocol"], record["draw"], rerank)))
            results.update({f"{setting}/{name}": record[name]["mean"] for name in METRICS})
        return results


def metric(records: list[dict]) -> float:
    """The one number that fast-reid calls `metric`: mean of Rank-1 and mAP of the first record."""
    return (records[0]["Rank-1"]["mean"] + records[0]["mAP"]["mean"]) / 2
