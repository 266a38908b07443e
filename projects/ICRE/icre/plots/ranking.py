"""Pictures of ranking lists: queries and their first images, right or wrong by their frame."""

from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from icre.evaluation.features import FeatureSet
from icre.evaluation.ranking_lists import RankingList, ranking_lists
from icre.modality import INFRARED
from icre.plots.style import BLACK, GREEN, PAGE, VERMILION, new_figure, save_figure, styled
from icre.utils.errors import UserError
from icre.utils.files import path_inside
from icre.utils.image import read_image

RIGHT, WRONG = (GREEN, "-", "✓"), (VERMILION, "--", "✗")  # colour, line style, mark
PIXELS = 256  # smaller images are enlarged to this height, so that viewers do not blur them
# Margins in heights of an image: between columns, below an image, left of a row.
GAP, CAPTION, SIDE = 0.10, 0.2, 0.2


@styled
def draw_rankings(
    data: FeatureSet,
    lists: Sequence[RankingList],
    root: Path,
    title: str = "",
    width: float = PAGE,
    known: Container[str] = (),
) -> Figure:
    """One row per query: the query, then the first images of its ranking.

    A solid green frame and a tick are the same person, a dashed vermilion one and a cross another.
    Below each image are its rank, mark and camera; left of the query its identity and AP.

    Args:
        data: the features that `lists` index; the images are read from `root` / path.
        lists: from `ranking_lists`.
        root: the data set's folder.
        title: above the figure; may be empty.
        width: inches.
        known: paths (`root` included) of the data set's own images, which may lie behind links that
            lead out of `root`.

    Raises:
        UserError: no list, an image that cannot be read, or a path that leaves `root`.
    """
    if not lists:
        raise UserError("the selection is empty: there is no ranking list to draw")
    rows = [
        [_path(root, str(data.paths[row]), known) for row in (one.query, *one.found)]
        for one in lists
    ]
    images = [[_read(path) for path in row] for row in rows]
    aspect = max(image.width / image.height for row in images for image in row)
    across = SIDE + max(map(len, images)) * (aspect + GAP) + 2 * GAP
    down = len(lists) * (1 + CAPTION)
    scale = width / across  # inches that an image is high
    size = min(6.5, 72 * scale * CAPTION * 0.6)  # points
    figure = new_figure(width, down * scale + (0.2 if title else 0.02))
    axes = figure.add_subplot()
    for line, (one, row) in enumerate(zip(lists, images)):
        top = line * (1 + CAPTION)
        axes.text(
            SIDE / 2,
            top + 0.5,
            f"id {data.pids[one.query]}   AP {one.ap:.2f}",
            rotation=90,
            ha="center",
            va="center",
            fontsize=size,
        )
        for rank, (image, index) in enumerate(zip(row, (one.query, *one.found))):
            left = SIDE + rank * (aspect + GAP) + (2 * GAP if rank else 0)
            look = (RIGHT if one.right[rank - 1] else WRONG) if rank else (BLACK, "-", "")
            _framed_image(axes, image, left, top, look, min(1.4, 1.8 * scale))
            text = f"{rank}{look[2]} c{data.camids[index]}" if rank else _query_label(data, index)
            axes.text(
                left + image.width / image.height / 2,
                top + 1.03,
                text,
                color=look[0],
                ha="center",
                va="top",
                fontsize=size,
            )
    axes.set(xlim=(0, across), ylim=(down, -0.03), aspect="equal")
    axes.axis("off")
    if title:
        figure.suptitle(title, fontsize=6.5, x=0.01, ha="left")
    return figure


def save_rankings(
    data: FeatureSet, record: dict, root: Path, permutation_file: Path | None, path: Path
) -> None:
    """Write the ranking picture of a result record's protocol.

    Args:
        data: the features that were extracted and scored, in any order.
        record: a result record.
        root, permutation_file: of the data set.
        path: of the picture.
    """
    data = data.ordered()
    lists = ranking_lists(data, record["protocol"], record["draw"], permutation_file)
    rank_1 = f"Rank-1 over {record['trials']} trials: {record['Rank-1']['mean']:.1f} %"
    title = f"{describe(record['protocol'], record['draw'])}. {rank_1}"
    known = {str(root / path) for path in data.paths}  # they were just read from the data set
    save_figure(draw_rankings(data, lists, root, title, known=known), path, dpi=150)


def describe(protocol: str, draw: str | None) -> str:
    """Title of the ranking lists of a protocol and gallery sampling."""
    return f"{protocol}, {draw or 'no'} draw, first trial (c: camera, {RIGHT[2]} same person)"


def _query_label(data: FeatureSet, query: int) -> str:
    kind = "IR" if data.modalities[query] == INFRARED else "VIS"
    return f"{kind} c{data.camids[query]}"


def _framed_image(
    axes: Axes, image: Image.Image, left: float, top: float, look: tuple[str, str, str], line: float
) -> None:
    right = left + image.width / image.height
    axes.imshow(np.asarray(image), extent=(left, right, top + 1, top), interpolation="antialiased")
    axes.add_patch(
        Rectangle(
            (left, top),
            right - left,
            1,
            fill=False,
            color=look[0],
            linestyle=look[1],
            linewidth=line,
        )
    )


def _path(root: Path, name: str, known: Container[str]) -> Path:
    if str(root / name) in known:
        return root / name
    return path_inside(root, name, "features")


def _read(path: Path) -> Image.Image:
    image = read_image(str(path))
    if image.height >= PIXELS:
        return image
    return image.resize((round(image.width * PIXELS / image.height), PIXELS), Image.BICUBIC)
