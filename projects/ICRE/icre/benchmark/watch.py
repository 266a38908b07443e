"""What a benchmark shows and keeps while it runs: each row at once, the time left, and a limit."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

from icre.evaluation import records
from icre.utils.environment import environment

T = TypeVar("T")


class Watch:
    """Follows one or more benchmarks.

    Args:
        file: gets what has been measured after each row, marked as partial, until the whole result
            replaces it; not if it is a pipe. None: nothing is kept.
        limit: seconds after which nothing new is begun; None: no limit.
        done: results of benchmarks before, {name: result}, which stay in the file.
    """

    def __init__(
        self,
        file: str | Path | None = None,
        limit: float | None = None,
        done: dict[str, Any] | None = None,
    ):
        self.file = Path(file) if file and _is_plain(Path(file)) else None
        self.limit, self.done = limit, done or {}
        self.begin, self.rows, self.left_out = perf_counter(), [], []

    @property
    def over(self) -> bool:
        """Whether the limit has passed."""
        return self.limit is not None and perf_counter() - self.begin > self.limit

    def each(
        self, items: Sequence[T], what: str, cost: Callable[[T], float] = lambda _: 1.0
    ) -> Iterator[T]:
        """The items, of which the first is always begun, and none after the limit.

        The whole time is told after the first, from its own.

        Args:
            items: what is measured.
            what: they are, for the messages.
            cost: of an item, in any unit.
        """
        print(f"{len(items)} {what}: {', '.join(map(str, items))}", flush=True)
        total = sum(map(cost, items))
        for number, item in enumerate(items):
            if number and self.over:
                line = f"--limit: not begun of the {what}: {', '.join(map(str, items[number:]))}"
                self.left_out.append(line)
                print(line, flush=True)
                return
            start = perf_counter()
            yield item
            if number == 0 and len(items) > 1:
                seconds = (perf_counter() - start) * (total / cost(item) - 1)
                print(f"about {seconds:.0f} s for the other {what}", flush=True)

    def row(self, text: str, **values: Any) -> None:
        """Keep the values of a measurement, and show it."""
        self.rows.append({"row": text, **values})
        if self.file:
            partial = {**environment(), "partial": True, "measured": self.rows, **self.done}
            records.save(partial, self.file)
        print(f"[{perf_counter() - self.begin:6.1f} s] {text}", flush=True)


def _is_plain(path: Path) -> bool:
    return path.is_file() or not path.exists()
