"""The ranking picture: some queries, the ten images found for each, right or wrong by their frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from icre.data.image import read_image
from icre.evaluation.features import FeatureSet
from icre.evaluation.files import replaced
from icre.evaluation.matlab import read_permutation
from icre.evaluation.plan import plan
from icre.evaluation.protocol import CAMERA_RULES

RIGHT, WRONG, QUERY = (46, 160, 67), (207, 34, 46), (100, 110, 120)
HEIGHT, FRAME, GAP, CAPTION = 144, 5, 4, 16  # pixels


@dataclass(frozen=True)
class RankingList:
    """One query and what was found for it, as rows of a FeatureSet.

    Args:
        query: row of the query.
        found: rows in the order of the ranking.
        right: whether each of them is of the query's identity.
    """

    query: int
    found: np.ndarray
    right: np.ndarray


def ranking_lists(
    data: FeatureSet,
    protocol: str,
    draw: str | None,
    permutation_file: Path | None = None,
    queries: int = 8,
    top: int = 10,
) -> list[RankingList]:
    """The first places of some queries in a protocol's first trial.

    The queries are not chosen by their result: of all that have a match they are taken at even
    distances, in the order of `FeatureSet.ordered`.

    Args:
        data: in the order of `FeatureSet.ordered`.
        protocol, draw: a setting, as a record names it.
        permutation_file: where the draw is official.
        queries, top: how many lists, and how long.
    """
    permutation = read_permutation(permutation_file) if draw == "official" else None
    setting = plan(data, protocol, draw, permutation)
    gallery = setting.galleries[0]
    asking = setting.query if setting.asked is None else setting.query[setting.asked[0]]
    pids, camids = torch.from_numpy(data.pids), torch.from_numpy(data.camids)
    rule = CAMERA_RULES[setting.protocol.barred]
    answers = torch.from_numpy(gallery)

    def allowed(rows: np.ndarray) -> np.ndarray:
        rows = torch.from_numpy(rows)
        if rule is None:
            return np.ones((len(rows), len(gallery)), dtype=bool)
        return ~rule(pids[rows], camids[rows], pids[answers], camids[answers]).numpy()

    matched = (allowed(asking) & (data.pids[asking][:, None] == data.pids[gallery])).any(axis=1)
    asking = asking[matched]
    chosen = asking[np.linspace(0, len(asking) - 1, min(queries, len(asking)), dtype=int)]
    unit = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    distance = np.where(allowed(chosen), 1 - unit[chosen] @ unit[gallery].T, np.inf)
    lists = []
    for query, row in zip(chosen, distance):
        order = np.argsort(row, kind="stable")[:top]
        found = gallery[order[np.isfinite(row[order])]]
        lists.append(RankingList(int(query), found, data.pids[found] == data.pids[query]))
    return lists


def draw_rankings(data: FeatureSet, lists: list[RankingList], root: Path, title: str) -> Image.Image:
    """Draw one row per query: the query, then what was found; green is right, red is wrong.

    Args:
        data: the features that `lists` speak of; their paths are read below `root`.
        lists: from `ranking_lists`.
        root: the data set's folder.
        title: stands above.
    """
    images = [[_read(data, root, row) for row in (one.query, *one.found)] for one in lists]
    width = max(image.width for row in images for image in row)
    columns = max(len(row) for row in images)
    cell_w, cell_h = width + 2 * FRAME + GAP, HEIGHT + 2 * FRAME + CAPTION + GAP
    sheet = Image.new("RGB", (GAP * 4 + cell_w * columns, 24 + cell_h * len(lists)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    pen.text((GAP, 5), title, fill="black", font=font)
    for line, (one, row) in enumerate(zip(lists, images)):
        colours = [QUERY, *(RIGHT if right else WRONG for right in one.right)]
        for place, (image, index, colour) in enumerate(zip(row, (one.query, *one.found), colours)):
            corner = (GAP + place * cell_w + (GAP * 2 if place else 0), 24 + line * cell_h)
            sheet.paste(ImageOps.expand(image, FRAME, colour), corner)
            text = f"{'query' if place == 0 else f'#{place}'} c{data.camids[index]}"
            pen.text((corner[0], corner[1] + HEIGHT + 2 * FRAME), text, fill=colour, font=font)
    return sheet


def save_rankings(
    data: FeatureSet, record: dict, root: Path, permutation_file: Path | None, path: Path
) -> None:
    """Write the ranking picture of a result record's protocol as PNG.

    Args:
        data: the features the record was made from, in any order.
        record: a result record.
        root, permutation_file: of the data set.
        path: of the picture.
    """
    data = data.ordered()
    lists = ranking_lists(data, record["protocol"], record["draw"], permutation_file)
    title = (
        f"{record['protocol']}, {record['draw'] or 'no'} draw, trial 1: query, top ten; "
        f"green = same person, red = another (c = camera). "
        f"Rank-1 over {record['trials']} trials: {record['Rank-1']['mean']:.1f} %"
    )
    with replaced(path) as temporary:
        draw_rankings(data, lists, root, title).save(temporary)


def _read(data: FeatureSet, root: Path, row: int) -> Image.Image:
    image = read_image(str(root / data.paths[row]))
    return image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.BICUBIC)
