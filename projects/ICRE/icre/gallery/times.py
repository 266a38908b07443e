"""Times of images and of filters.

One rule for zones: a time with a zone is converted to UTC, a time without one is taken as UTC.
"""

import re
from datetime import UTC, datetime

import numpy as np

from icre.utils.errors import UserError

_EPOCH = re.compile(r"-?\d+(\.\d*)?")
_PART = re.compile(r"((?:19|20)\d\d)(0[1-9]|1[0-2])?")  # a year, or year and month
_DATE = re.compile(r"\d{8}")  # ISO 8601 without dashes
_LARGEST = 1e11  # seconds, year 5138; more are milliseconds


def parse_time(text: str, where: str) -> np.datetime64:
    """A time as datetime64[us], UTC.

    Args:
        text: ISO 8601 (`2026-11-01T18:00`, `2026-11-01`, `...Z`, `...+02:00`), or seconds since
            1970-01-01 UTC.
        where: begins the message.

    Raises:
        UserError: it is neither, or a year or month alone.
    """
    if part := _PART.fullmatch(text):
        raise UserError(
            f"{where}: {text!r} is no time: write {part[1]}-{part[2] or '01'}-01 for a date, or "
            f"{text}.0 for seconds since 1970"
        )
    try:
        if _EPOCH.fullmatch(text) and not _DATE.fullmatch(text):
            if abs(float(text)) >= _LARGEST:
                raise ValueError
            return from_datetime(datetime.fromtimestamp(float(text), UTC))
        return from_datetime(datetime.fromisoformat(text))
    except (ValueError, OverflowError, OSError):
        raise UserError(
            f"{where}: {text!r} is no time: write ISO 8601, such as 2026-11-01T18:00 (UTC where no "
            "zone is given), or seconds since 1970"
        ) from None


def from_datetime(time: datetime) -> np.datetime64:
    """As datetime64[us], UTC; without a zone it is UTC already."""
    if time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(time, "us")
