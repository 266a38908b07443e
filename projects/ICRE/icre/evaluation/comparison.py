"""What `compare` found, for people: tables and a frame."""

import math
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from icre.evaluation.breakdown import METRICS
from icre.utils.frame import data_frame

if TYPE_CHECKING:
    from pandas import DataFrame


class Comparison(dict[str, Any]):
    """The result of `compare`, a dict that prints as tables.

    Args:
        result: what `compare` describes.
        names: of the two models.
    """

    def __init__(self, result: dict[str, Any], names: tuple[str, str]):
        super().__init__(result)
        self.names = names

    def __repr__(self) -> str:
        return report(self, self.names)

    def frame(self) -> "DataFrame":
        """One row per metric of the whole protocol, then of each camera pair, in percent.

        Raises:
            UserError: pandas is not installed.
        """
        asked = ("query", "gallery", "queries", "identities")
        return data_frame(
            [
                {name: row[name] for name in asked} | {"metric": metric} | row[metric]
                for row in (self["all"], *self["cameras"])
                for metric in METRICS
            ]
        )


def report(result: dict[str, Any], names: tuple[str, str] = ("A", "B")) -> str:
    """Render a comparison for people: the whole protocol, then each camera pair."""
    title = (
        f"{result['protocol']}, draw {result['draw'] or '-'}, {result['trials']} trials, not "
        f"re-ranked; B - A with {result['level']:g} % intervals from {result['samples']} samples "
        f"over {result['all']['identities']} identities and the draws, in percent\n"
        f"A = {names[0]}\nB = {names[1]}"
    )
    whole = [
        {
            "metric": metric,
            "A": f"{cell['first']:.2f}",
            "B": f"{cell['second']:.2f}",
            "B - A": difference(cell),
            "is it real?": verdict(cell),
        }
        for metric, cell in ((metric, result["all"][metric]) for metric in METRICS)
    ]
    pairs = [
        {"query camera": row["query"], "gallery camera": row["gallery"], "queries": row["queries"]}
        | {f"{metric}, B - A": difference(row[metric]) for metric in METRICS}
        for row in result["cameras"]
    ]
    tables = [
        tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
        for rows in (whole, pairs)
    ]
    return f"{title}\n\n{tables[0]}\n\nBy camera pair:\n{tables[1]}"


def difference(cell: dict[str, float]) -> str:
    """A metric's cell of a row, for people."""
    return f"{cell['difference']:+.2f} [{cell['low']:+.2f}, {cell['high']:+.2f}]"


def verdict(cell: dict[str, float]) -> str:
    """Whether the interval of a metric's cell leaves 0 out."""
    if math.isnan(cell["low"]):
        return "not known: too few identities have queries in every trial"
    if cell["low"] > 0 or cell["high"] < 0:
        return "yes"
    return "not shown: the interval holds 0"
