"""Reading JSON files that runs write: result records and logged scalars."""

import json
from pathlib import Path
from typing import Any

from pydantic import Field, create_model

from icre.evaluation.records import METRICS
from icre.utils.errors import UserError
from icre.utils.files import read_json
from icre.utils.schema import Open, parse

Scalars = dict[str, tuple[list[int], list[float]]]  # name -> (iterations, values)


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """Read result records, such as a run's metrics.json; see `icre.evaluation.records`.

    Raises:
        UserError: no JSON, or names the record and the field that is missing or of another type.
    """
    records = read_json(path)
    if not isinstance(records, list):
        raise UserError(f"{path}: no list of result records")
    for number, one in enumerate(records, start=1):
        parse(Record, one, f"{path}: record {number}")
    return records


class Metric(Open):
    """A figure over the trials."""

    mean: float
    std: float | None


class Rerank(Open):
    """Settings of a re-ranking."""

    algorithm: str
    k1: int
    k2: int
    share: float = Field(alias="lambda")


class _Settings(Open):
    protocol: str
    draw: str | None
    split: int | None
    rerank: Rerank | None
    feature: str | None = None  # old records have none
    trials: int
    valid_queries: int
    gallery: float


# what tables and figures read of a result record
_COLUMNS: dict[str, Any] = dict.fromkeys(METRICS, (Metric, ...))
Record = create_model("Record", __base__=_Settings, **_COLUMNS)


def read_scalars(path: str | Path) -> Scalars:
    """Read a run's scalars.json: name -> (iterations, values), in the order of the file.

    A resumed run repeats steps; the later line counts.

    Raises:
        UserError: no such file, or a line that is no JSON object of numbers with an iteration.
    """
    path = Path(path)
    found: Scalars = {}
    if not path.is_file():
        raise UserError(f"{path}: no such file; a run writes it while it trains")
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                entry = json.loads(line)
                step = entry.pop("iteration")
                if type(step) is not int or not 0 <= step < 2**53:
                    raise ValueError
                values = {name: _number(value) for name, value in entry.items()}
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
                raise UserError(
                    f"{path}: line {number} is no JSON object of numbers with an iteration"
                ) from None
            for name, value in values.items():
                steps, logged = found.setdefault(name, ([], []))
                while steps and steps[-1] >= step:
                    steps.pop(), logged.pop()
                steps.append(step)
                logged.append(value)
    if not found:
        raise UserError(f"{path} is empty: the run has not logged anything yet")
    return found


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError
    return float(value)
