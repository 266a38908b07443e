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
_ONLY = ""  # name of the feature of a model that gives one


class FeatureCollector(DatasetEvaluator):
    """Gathers the features of one data set, from all ranks.

    Args:
        root: the data set's folder; image paths are taken relative to it.
        dataset: see FeatureSet.

        feature: of a model that gives several by name (`icre.modeling.head.all_test_features`), the
            one to keep as `features`.

    After `evaluate`, on the first rank: `features`, a FeatureSet; and `others`, {name: FeatureSet}
    of the rest.
    """

    def __init__(self, root: Path, dataset: str = "", feature: str | None = None):
        self.root = root
        self.dataset = dataset
        self.feature = feature
        self.reset()

    def reset(self) -> None:
        """Forget what was gathered."""
        self._parts: list[dict] = []
        self.features: FeatureSet | None = None
        self.others: dict[str, FeatureSet] = {}

    def process(self, inputs: dict, outputs: torch.Tensor | dict[str, torch.Tensor]) -> None:
        """Keep a batch's features, (B, D) each, and what the batch says of its images."""
        if isinstance(outputs, torch.Tensor):  # of a model with one
            self.feature, outputs = None, {_ONLY: outputs}
        features = {name: x.float().cpu().numpy() for name, x in outputs.items()}
        part = {name: inputs[key].cpu().numpy() for key, name in _COLUMNS.items()}
        paths = [Path(path).relative_to(self.root).as_posix() for path in inputs["img_paths"]]
        self._parts.append({**part, "features": features, "paths": paths})

    def evaluate(self) -> OrderedDict:
        """Join what all ranks gathered; an empty result, as nothing is scored."""
        gathered = comm.gather(self._parts)
        if comm.is_main_process():
            parts = list(itertools.chain.from_iterable(gathered))
            columns = {
                name: np.concatenate([part[name] for part in parts])
                for name in (*_COLUMNS.values(), "paths")
            }
            sets = {
                name: FeatureSet(
                    np.concatenate([part["features"][name] for part in parts]),
                    **columns,
                    dataset=self.dataset,
                )
                for name in parts[0]["features"]
            }
            self.features = sets.pop(self.feature or _ONLY)
            self.others = sets
        return OrderedDict()


class ProtocolEvaluator(FeatureCollector):
    """Scores every protocol from features that are gathered once.

    Args:
        root, dataset, feature: see FeatureCollector.
        protocols: names, or empty for the data set's own list.
        permutation_file: the official gallery sampling; used if the file exists.
        device: where to rank.
        reranker: score re-ranked distances too.
        score_others: score the model's other features too, not re-ranked.
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
        feature: str | None = None,
        score_others: bool = False,
        **labels,
    ):
        super().__init__(root, dataset, feature)
        self.protocols = list(protocols) or None
        found = permutation_file is not None and permutation_file.is_file()
        self.permutation_file = permutation_file if found else None
        self.device = device
        self.reranker = reranker
        self.score_others = score_others
        self.labels = labels

    def reset(self) -> None:
        """Forget what was gathered and scored."""
        super().reset()
        self.records: list[dict] = []

    def evaluate(self) -> OrderedDict:
        """Score, on the first rank.

        Returns:
            {"<protocol>/<draw>/<metric>": mean in percent} for fast-reid's event storage, the
            re-ranked ones as "<protocol>/<draw>/rerank/<metric>", those of another feature as
            "<protocol>/<draw>/<feature>/<metric>", and `metric`, the mean of Rank-1 and mAP of the
            first record, which is a plain one; empty on other ranks.
        """
        super().evaluate()
        if self.features is None:
            return OrderedDict()
        self.records = self._score(self.features, self.feature, self.reranker)
        if self.score_others:
            for name, features in self.others.items():
                self.records += self._score(features, name)
        results = OrderedDict(metric=metric(self.records))
        for record in self.records:
            rerank = record["rerank"] and "rerank"
            other = record["feature"] if record["feature"] != self.feature else None
            parts = (record["protocol"], record["draw"], other, rerank)
            setting = "/".join(filter(None, parts))
            results.update({f"{setting}/{name}": record[name]["mean"] for name in METRICS})
        return results

    def _score(
        self, features: FeatureSet, name: str | None, reranker: Reranker | None = None
    ) -> list[dict]:
        return score(
            features,
            self.protocols,
            perm=self.permutation_file,
            device=self.device,
            reranker=reranker,
            feature=name,
            **self.labels,
        )


def metric(records: list[dict]) -> float:
    """The one number that fast-reid calls `metric`: mean of Rank-1 and mAP of the first record."""
    return (records[0]["Rank-1"]["mean"] + records[0]["mAP"]["mean"]) / 2
