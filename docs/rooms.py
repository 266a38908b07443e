"""Draw the rooms of the package `icre` and which imports which: docs/images/rooms.svg.

    python docs/rooms.py            # draw it again
    python docs/rooms.py --check    # is the drawing true? (a test does this)

The order from top to bottom is that of pyproject.toml, which `lint-imports` holds. An arrow is an
import; those that follow from two others are left out.
"""

import sys
import tomllib
from pathlib import Path

import grimp
import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "rooms.svg"
WIDTH, HEIGHT = 1.9, 0.52  # of a box
TEXTS = {
    "commands": "arguments of each command",
    "experiments": "ablations, RegDB's splits",
    "report": "one page of runs, figures",
    "benchmark": "speed beside others",
    "listing": "what a config can name",
    "serve": "a gallery by HTTP",
    "inference": "run folders, icre.load",
    "engine": "trainer, step, hooks, processes",
    "export": "ONNX, TorchScript",
    "gallery": "store, index, calibration",
    "plots": "figures from plain data",
    "runs": "checkpoints, resuming",
    "evaluation": "features, trials, ranking, re-ranking",
    "modeling": "ICRE, MPFR, SDCE, losses",
    "data": "transforms, sampler, loader",
    "datasets": "one file per data set",
    "config": "every key, loading, checks",
    "cluster": "machines of a Ray cluster",
    "utils": "files, images, errors, devices",
    "compat": "fast-reid on current torch",
    "modality": "visible 0, infrared 1",
}


def layers() -> list[list[str]]:
    """Rooms from top to bottom, as pyproject.toml orders them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    rows = [row.split(" | ") for row in contracts["contracts"][0]["layers"]]
    return [row for row in rows if row != ["__main__"]]


def arrows() -> set[tuple[str, str]]:
    """(importer, imported) rooms, without those that follow from two other arrows."""
    graph = grimp.build_graph("icre", cache_dir=None)
    edges = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = tuple([*name.split("."), ""][1] for name in (importer, imported))
            if "" not in pair and pair[0] != pair[1] and "__main__" not in pair:
                edges.add(pair)
    reach = {room: {b for a, b in edges if a == room} for row in layers() for room in row}
    for row in reversed(layers()):
        for room in row:
            reach[room] |= set().union(*(reach[b] for b in reach[room]), set())
    return {
        (a, b) for a, b in edges if not any(b in reach[c] for d, c in edges if d == a and c != b)
    }


def draw() -> str:
    """The picture as SVG, the same for the same imports."""
    rows, places = layers(), {}
    figure = Figure(figsize=(8.2, 0.95 * len(rows)))
    axes = figure.add_axes((0, 0, 1, 1))
    for line, row in enumerate(rows):
        for place, room in enumerate(row):
            x, y = 2.6 * (place - (len(row) - 1) / 2), -line
            places[room] = x, y
            box = FancyBboxPatch(
                (x - WIDTH / 2, y - HEIGHT / 2), WIDTH, HEIGHT, boxstyle="round,pad=0.06",
                facecolor="#eef3f8", edgecolor="#0072B2", linewidth=1, zorder=1,
            )  # fmt: skip
            axes.add_patch(box)
            axes.text(
                x, y + 0.1, room, ha="center", va="center", fontsize=11, weight="bold", zorder=2
            )
            axes.text(x, y - 0.14, TEXTS[room], ha="center", va="center", fontsize=6.3, zorder=2)
    for importer, imported in sorted(arrows()):
        (x0, y0), (x1, y1) = places[importer], places[imported]
        bend = 0.45 if y0 - y1 > 1 and x0 == x1 else 0  # round the boxes between
        axes.annotate(
            "", (x1 + bend, y1 + HEIGHT / 2 + 0.06), (x0 + bend, y0 - HEIGHT / 2 - 0.06),
            arrowprops={
                "arrowstyle": "->", "color": "#66707a", "linewidth": 0.9,
                "connectionstyle": f"arc3,rad={-bend}",
            },
            zorder=0,
        )  # fmt: skip
    axes.set(xlim=(-4, 4), ylim=(-len(rows) + 0.5, 0.5))
    axes.axis("off")
    with matplotlib.rc_context({"svg.hashsalt": "icre", "svg.fonttype": "none"}):
        figure.savefig(PICTURE.with_suffix(".new.svg"), metadata={"Date": None, "Creator": None})
    made = PICTURE.with_suffix(".new.svg")
    text = made.read_text()
    made.unlink()
    return text


def main(argv: list[str]) -> int:
    """Draw, or with --check compare; 1 where the picture is not true."""
    made = draw()
    if "--check" in argv:
        return int(not PICTURE.is_file() or PICTURE.read_text() != made)
    PICTURE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
