"""Result records: their fields, their table, their file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tabulate import tabulate

from icre.utils.errors import UserError
from icre.utils.files import replaced
from icre.utils.frame import data_frame

if TYPE_CHECKING:
    from pandas import DataFrame

    from fastreid.config import CfgNode

METRICS = ("Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP")
_FIELDS = (
    "protocol",
    "draw",
    "trials",
    "std_over",
    "split",
    "rerank",
    "calibration",  # of similarities between pairs of modalities: method, people, images, source
    "feature",  # the model's test feature, MODEL.HEADS.TEST_FEAT; null: it has one, or unknown
    "flip",  # averaged with that of the mirror image
    "queries",
    "valid_queries",
    "gallery",
    "identities",
    "seed",
    "epoch",
    "steps",
    "weights",  # checksum of the checkpoint's weights, or UNTRAINED; null: features from a file
)
UNTRAINED = "untrained"
_WHERE_KNOWN = ("split", "calibration", "test feature")  # columns that would else be empty


def record(
    trials: list[dict[str, float]], protocol: str, draw: str | None, **labels: Any
) -> dict[str, Any]:
    """One record from the metrics of a protocol's trials.

    Args:
        trials: per trial the six metrics, in percent.
        protocol, draw: name of the protocol and of the gallery sampling.
        labels: any of the other fields; those not given are null.

    Returns:
        The fields of the result record and, for each metric, {"mean", "std"}: in percent, std the
        population standard deviation over the gallery samples (null without sampling).
    """
    unknown = set(labels) - set(_FIELDS)
    if unknown:
        raise UserError(f"a record has no field '{min(unknown)}'; it has {', '.join(_FIELDS)}")
    known = {
        "protocol": protocol,
        "draw": draw,
        "trials": len(trials),
        "std_over": "draws" if draw else None,
        **labels,
    }
    result = {field: known.get(field) for field in _FIELDS}
    for name in METRICS:
        column = np.array([trial[name] for trial in trials])
        result[name] = {"mean": float(column.mean()), "std": float(column.std()) if draw else None}
    return result


class Scores(list[dict[str, Any]]):
    """Result records, which print as a table.

    Each is a dict with the fields of `record`: `scores[0]["mAP"]["mean"]` is in percent.
    """

    def __repr__(self) -> str:
        return table(self) or "no result records"

    def frame(self) -> "DataFrame":
        """One row per record; a metric's standard deviation is the column "mAP std", for example.

        Raises:
            UserError: pandas is not installed.
        """
        rows = []
        for one in self:
            row = {field: one[field] for field in _FIELDS}
            row["rerank"] = rerank_label(one["rerank"])
            row["calibration"] = calibration_label(one["calibration"])
            for name in METRICS:
                row |= {name: one[name]["mean"], f"{name} std": one[name]["std"]}
            rows.append(row)
        return data_frame(rows)


def table(records: list[dict[str, Any]]) -> str:
    """Render records for people; re-ranked ones stand in a table of their own."""
    groups = (
        ("Not re-ranked, in percent:", [one for one in records if not one["rerank"]]),
        ("Re-ranked, in percent:", [one for one in records if one["rerank"]]),
    )
    return "\n\n".join(f"{title}\n{_one_table(group)}" for title, group in groups if group)


def save(records: list[dict[str, Any]] | dict[str, Any], path: str | Path) -> None:
    """Write records, or another result, as JSON; an interrupted save leaves the old file."""
    with replaced(path) as temporary:
        temporary.write_text(json.dumps(records, indent=1) + "\n")


def of_whole_training(records: Sequence[dict[str, Any]], cfg: "CfgNode") -> bool:
    """Whether a training with `cfg` had ended when `records` were made of its test set.

    TEST.EVAL_PERIOD writes them during the training too, but not with DATASETS.VALIDATION.
    """
    ends = None, cfg.SOLVER.MAX_EPOCH  # None: a checkpoint that says no epoch
    return cfg.DATASETS.VALIDATION or all(one.get("epoch") in ends for one in records)


def _one_table(records: list[dict[str, Any]]) -> str:
    rows = [
        {
            "protocol": one["protocol"],
            "draw": one["draw"] or "-",
            "trials": one["trials"],
            "split": "-" if one["split"] is None else one["split"],
            "calibration": calibration_label(one.get("calibration")),
            "std over": one["std_over"] or "-",
            "rerank": rerank_label(one["rerank"]),
            "test feature": feature_label(one),
            "queries": one["valid_queries"],
            "gallery": one["gallery"],
            **{name: mean_std(one[name]) for name in METRICS},
        }
        for one in records
    ]
    for name in _WHERE_KNOWN:
        if all(row[name] == "-" for row in rows):
            rows = [{key: row[key] for key in row if key != name} for row in rows]
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def mean_std(metric: dict[str, float | None]) -> str:
    """A metric of a record, with its standard deviation if there is one."""
    mean, std = metric["mean"], metric["std"]
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def feature_label(record: dict[str, Any]) -> str:
    """A record's fields `feature` and `flip`, for people; records of old runs have the latter."""
    flip = "flip" if record["flip"] else None
    return " + ".join(filter(None, (record.get("feature"), flip))) or "-"


def calibration_label(calibration: dict[str, Any] | None) -> str:
    """A record's field `calibration`, for people."""
    return calibration["method"] if calibration else "-"


def rerank_label(rerank: dict[str, Any] | None) -> str:
    """A record's field `rerank`, for people."""
    if not rerank:
        return "no"
    return "{algorithm} k1={k1} k2={k2} lambda={lambda}".format_map(rerank)
