"""Rows as a pandas frame, where pandas is installed; nothing else needs it."""

from typing import TYPE_CHECKING, Any

from icre.utils.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame


def data_frame(rows: list[dict[str, Any]]) -> "DataFrame":
    """One row per dict, one column per key.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UserError("a frame needs pandas: pip install pandas") from None
    return pandas.DataFrame(rows)
