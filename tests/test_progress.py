"""Progress without a terminal: lines at intervals, none for short work."""

import sys

import pytest

from icre.utils import progress
from icre.utils.progress import progress_bar


class Clock:
    """tqdm's clock, moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def shown(monkeypatch, capsys):
    """(clock, function that gives the lines written so far)"""
    clock, written = Clock(), []

    def lines() -> list[str]:
        written.append(capsys.readouterr().err)
        return "".join(written).split("\n")[:-1]

    monkeypatch.setattr("tqdm.std.time", clock)
    monkeypatch.setattr(progress._LineBar, "monitor_interval", 0)
    return clock, lines


@pytest.mark.parametrize("leave", [True, False])
def test_a_line_after_five_seconds_and_every_half_minute(shown, leave):
    clock, lines = shown
    counts = []
    for _ in progress_bar(range(100), "working", unit="img", leave=leave):
        counts.append(len(lines()))
        clock.now += 1
    assert counts[4] == 0 and counts[7] == 1 and counts[30] == 1 and counts[40] == 2
    assert max(counts) == 4  # after 5, 35, 65 and 95 seconds
    assert all(line.startswith("working") and "img/s" in line for line in lines())
    assert "100/100" in lines()[-1] if leave else len(lines()) == 4
    assert not any("\r" in line or not line.strip() for line in lines())


def test_short_work_and_what_is_switched_off_show_nothing(shown):
    clock, lines = shown
    for _ in progress_bar(range(4), "working"):
        clock.now += 1
    for _ in progress_bar(range(100), "working", disable=True):
        clock.now += 1
    assert lines() == []


@pytest.mark.parametrize("seconds, expected", [(10, [6, 22, 25]), (0.1, [6, 170, 470])])
def test_a_line_says_how_far_the_work_is_when_its_speed_changes(shown, seconds, expected):
    clock, lines = shown
    for step in progress_bar(range(1000), "working", unit="img"):
        clock.now += 1 if step < 20 else seconds
    found = [int(line.split("/1000")[0].split()[-1]) for line in lines()[:3]]
    assert found == pytest.approx(expected, abs=3)


def test_a_bar_that_the_caller_moves(shown):
    clock, lines = shown
    with progress_bar(None, "ablation", total=10, initial=2) as bar:
        for _ in range(8):
            clock.now += 20
            bar.set_postfix_str("row 1", refresh=False)
            bar.update()
    assert "3/10" in lines()[0] and "row 1" in lines()[0] and "10/10" in lines()[-1]


def test_on_a_terminal_it_is_tqdms_bar(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    bar = progress_bar(range(3), "working", disable=True)
    assert type(bar) is not progress._LineBar
