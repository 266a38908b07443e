"""docs/images/rooms.svg shows the imports as they are."""

import runpy
from pathlib import Path

ROOMS = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "rooms.py"))


def test_the_drawing_is_true():
    assert ROOMS["main"](["--check"]) == 0, "run: python docs/rooms.py"


def test_every_room_is_drawn_and_no_arrow_goes_upwards():
    order = [room for row in ROOMS["layers"]() for room in row]
    assert set(order) == set(ROOMS["TEXTS"])
    below = {room: line for line, row in enumerate(ROOMS["layers"]()) for room in row}
    assert all(below[importer] < below[imported] for importer, imported in ROOMS["arrows"]())
