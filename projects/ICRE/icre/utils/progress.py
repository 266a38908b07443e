"""Progress of long work: a bar on a terminal, else a line now and then."""

import sys
from collections.abc import Iterator
from typing import Any, TextIO

from tqdm import tqdm

_FIRST, _EVERY = 5.0, 30.0  # seconds to the first line, and between two


class _Lines:
    """A stream for tqdm where no terminal is: what it writes over its last words is a new line."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        text = text.strip()
        if text:
            self.stream.write(f"{text}\n")

    def flush(self) -> None:
        self.stream.flush()


class _LineBar(tqdm):
    def __iter__(self) -> Iterator[Any]:
        try:
            for item in self.iterable:
                yield item
                self.update()  # tqdm's own loop would keep the first interval, and miscount
        finally:
            self.close()

    def display(self, *args: Any, **kwargs: Any) -> None:
        self.mininterval = _EVERY
        super().display(*args, **kwargs)


def progress_bar(iterable: Any = None, what: str = "", **options: Any) -> tqdm:
    """tqdm's bar with an estimate on standard error.

    Without a terminal it is a line after five seconds and every half minute, and of work that is
    done by then nothing.

    Args:
        iterable: what is gone through; None: the caller updates the bar.
        what: the bar's description.
        options: tqdm's.
    """
    if sys.stderr.isatty():
        return tqdm(iterable, what, **options)
    # tqdm would look at its clock only every so many steps, and write an old count in between
    often = {"mininterval": _FIRST, "miniters": 0, "delay": _FIRST}
    return _LineBar(iterable, what, **{"file": _Lines(sys.stderr), **often, **options})
