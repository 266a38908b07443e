"""Reading JSON files that runs write: result records and logged scalars."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from icre.evaluation.records import METRICS
from icre.utils.errors import UserError
from icre.utils.files import read_json

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
        check_record(one, f"{path}: record {number}")
    return records


def check_record(record: Any, where: str) -> None:
    """Raise UserError, which begins with `where`, unless this is a result record."""
    if not isinstance(record, dict):
        raise UserError(f"{where} is no result record")
    for field, valid in _RECORD.items():
        if field not in record or not valid(record[field]):
            raise UserError(f"{where} has {'a wrong' if field in record else 'no'} {field}")


def _is_count(value: Any) -> bool:
    return type(value) is int


def _is_rerank(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and {"algorithm", "k1", "k2", "lambda"} <= set(value)
        and all(isinstance(one, str | int | float | None) for one in value.values())
    )


def _is_metric(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("mean")) in (int, float)
        and type(value.get("std")) in (int, float, type(None))
    )


# field -> whether a value has its type; those that tables and figures read
_RECORD: dict[str, Callable[[Any], bool]] = {
    "protocol": lambda value: isinstance(value, str),
    "draw": lambda value: isinstance(value, str | None),
    "split": lambda value: isinstance(value, int | None),
    "rerank": _is_rerank,
    "trials": _is_count,
    "valid_queries": _is_count,
    "gallery": lambda value: type(value) in (int, float),
    **dict.fromkeys(METRICS, _is_metric),
}


def read_scalars(path: str | Path) -> Scalars:
    """Read a run's scalars.json: name -> (iterations, values), in the order of the file.

    A resumed run repeats steps; the later line counts.

    Raises:
        UserError: no such file, or a line that is no JSON object of numbers with an iteration.
    """
    path, found = Path(path), {}
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
