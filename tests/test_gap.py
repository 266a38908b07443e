"""`benchmark gap`: descriptors by hand, its search against loops, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from icre.benchmark import gap
from icre.commands.benchmark import main
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError


def test_descriptors_by_hand():
    image = np.zeros((6, 2, 3), np.uint8)
    image[0] = 255
    np.testing.assert_allclose(gap.pixels(image), [212.5] * 2 + [-42.5] * 10)
    grey = gap.grey_histogram(image).reshape(6, 16)
    assert grey[0, 15] == pytest.approx(2**0.5) and grey[1, 0] == pytest.approx(2**0.5)
    assert (grey**2).sum() == pytest.approx(12)
    image[1] = (255, 0, 128)
    colour = gap.colour_histogram(image).reshape(6, 216)
    assert colour[1, 5 * 36 + 3] == pytest.approx(2**0.5) and (colour**2).sum() == pytest.approx(12)


@pytest.mark.parametrize(
    "query, gallery", [(VISIBLE, VISIBLE), (INFRARED, INFRARED), (INFRARED, VISIBLE)]
)
def test_rank_1_is_what_loops_find(query, gallery):
    rng = np.random.default_rng(0)
    pids, camids, frames = (
        part.ravel()
        for part in np.meshgrid(np.arange(1, 6), np.arange(1, 7), np.arange(1, 4), indexing="ij")
    )
    vectors = gap._unit(rng.normal(size=(len(pids), 6)) + 0.8 * rng.normal(size=(6, 6))[pids])
    pictures = gap.Pictures({"v": vectors}, pids, camids, np.char.mod("%04d", frames))
    cameras = {VISIBLE: (1, 2, 4, 5), INFRARED: (3, 6)}
    hits = []
    for q in range(len(pids)):
        if camids[q] not in cameras[query] or (query == gallery and frames[q] == 1):
            continue
        best, found = -2.0, None
        for g in range(len(pids)):
            usable = camids[g] in cameras[gallery] and frames[g] == 1 and camids[g] != camids[q]
            if usable and (camids[q], camids[g]) != (3, 2) and vectors[q] @ vectors[g] > best:
                best, found = vectors[q] @ vectors[g], pids[g]
        hits.append(found == pids[q])
    assert 0.2 < np.mean(hits) < 1
    assert gap.rank_1(pictures, "v", query, gallery) == pytest.approx(100 * np.mean(hits))


def test_the_command_prints_each_row_and_the_table_and_writes_them(demo_root, tmp_path, capsys):
    assert main(["gap", "--data", str(demo_root), "--json", str(tmp_path / "gap.json")]) == 0
    said = capsys.readouterr().out
    assert said.count("infrared") == 18 and "25.0" in said
    assert '"Rank-1"' in (tmp_path / "gap.json").read_text()


def test_no_tree_and_mixed_sizes_are_one_line(own_root, tmp_path):
    with pytest.raises(UserError, match="no SYSU-MM01 tree"):
        gap.read(tmp_path)
    tree = own_root / "SYSU-MM01"
    pid = int((tree / "exp" / "test_id.txt").read_text().split(",")[0])
    Image.new("RGB", (8, 8)).save(tree / "cam5" / f"{pid:04d}" / "0001.jpg")
    with pytest.raises(UserError, match="others are not"):
        gap.read(tree)
