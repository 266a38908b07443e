"""docs/images/rooms.svg shows the imports as they are."""

import re
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


def test_compat_comes_before_fastreid():
    """Each module imports by itself what it needs: conftest would hide a missing import."""
    sources = (Path(__file__).parents[1] / "projects/ICRE/icre").rglob("*.py")
    needs = {
        "fastreid.": "import icre.compat",
        "fastreid.evaluation": "import icre.compat.evaluation",
        "fastreid.engine": "import icre.compat.evaluation",
    }
    wrong = []
    for path in sources:
        text = path.read_text()
        if "compat" in path.parts or "modeling" in path.parts:  # modeling's __init__ imports it
            continue
        for module, line in needs.items():
            imported = re.search(rf"^(from|import) {re.escape(module)}", text, re.M)
            wanted = re.search(rf"^(from {line[7:]} import|{re.escape(line)})", text, re.M)
            if imported and not wanted:
                wrong.append(f"{path.name}: {module} without {line}")
    assert wrong == []
