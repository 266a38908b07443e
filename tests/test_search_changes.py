"""tools/search.py add, remove, merge, info and verify, filters and boxes, with a model."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

import test_search
from icre.commands import search
from icre.gallery import journal
from icre.gallery.store import open_gallery
from icre.gallery.verify import verify
from icre.inference.extractor import FeatureExtractor
from icre.utils.image import read_image
from test_search import camera_folders, index_arguments, interrupted_after, pictures, query

pytestmark = pytest.mark.slow

gallery, own_gallery = test_search.gallery, test_search.own_gallery  # fixtures


def run(*words: object, status: int = 0) -> None:
    assert search.main([str(word) for word in words]) == status


def test_a_week_by_the_command(finished_run, demo_root, tmp_path, capsys):
    """Index one camera, add another after an interruption, remove a person: as at once."""
    one, both = tmp_path / "one", tmp_path / "both"
    first, second = camera_folders(demo_root, (1, 2))
    run(*index_arguments(finished_run, one, first))
    run(*index_arguments(finished_run, both, first, second))
    with interrupted_after(2):
        run("add", one, second, "--shard", 4, "--device", "cpu", status=130)
    assert open_gallery(one).version == 1 and verify(open_gallery(one))
    computed = []
    batches = FeatureExtractor.batches

    def counted(extractor, images, modalities):
        computed.extend(images)
        return batches(extractor, images, modalities)

    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractor, "batches", counted)
        run("add", one, second, "--shard", 4, "--device", "cpu")
    count = len(pictures(demo_root, (2,)))
    assert computed == pictures(demo_root, (2,))[8:]
    assert f"{count} images added, now {count + len(pictures(demo_root, (1,)))}" in (
        capsys.readouterr().out
    )
    asked = pictures(demo_root, (3,))[:3]
    page, answers = tmp_path / "page.html", tmp_path / "answers.json"
    run("query", one, *asked, "--html", page, "--json", answers, "--device", "cpu")
    person = open_gallery(one).images.row(0)["identity"]
    for folder in (one, both):
        capsys.readouterr()
        run("remove", folder, "--identity", person, "--reason", "asked for")
        told = capsys.readouterr().out
        assert "the image files are not" in told
        assert (str(page) in told) == (str(answers) in told) == (folder == one)
        run("verify", folder)
    assert Path(open_gallery(both).images.row(0)["path"]).is_file()
    for conditions in ((), ("--camera", "2"), ("--not-camera", "1"), ("--path", "*/cam1/*")):
        found = [query(folder, tmp_path, *asked, *conditions) for folder in (one, both)]
        listed = [[m["path"] for q in result for m in q["matches"]] for result in found]
        assert listed[0] == listed[1] and listed[0]
        assert person not in [m["identity"] for q in found[0] for m in q["matches"]]
        if conditions[1:] == ("2",):
            assert {m["camera"] for q in found[0] for m in q["matches"]} == {"2"}
    capsys.readouterr()
    run("info", one)
    told = capsys.readouterr().out
    assert "cameras    1, 2\n" in told and f"--identity {person}; asked for" in told
    run("remove", one, "--identity", person, status=2)
    assert f"--identity {person}: no image" in capsys.readouterr().err
    run("merge", one, both, "--out", tmp_path / "merged", status=2)
    assert "--skip-existing" in capsys.readouterr().err
    run("merge", one, both, "--out", tmp_path / "merged", "--skip-existing")
    assert len(open_gallery(tmp_path / "merged").images) == len(open_gallery(both).images)


def test_adding_what_is_there(own_gallery, demo_root, capsys):
    folder, before = camera_folders(demo_root, (1,))[0], open_gallery(own_gallery)
    run("add", own_gallery, folder, status=2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is in gallery" in error and "--skip-existing" in error
    run("add", own_gallery, folder, "--skip-existing")
    assert "are there already, and left out" in capsys.readouterr().out
    assert open_gallery(own_gallery).version == before.version
    new = pictures(demo_root, (6,))[0]
    run("add", own_gallery, folder, new, "--skip-existing", "--device", "cpu")
    assert open_gallery(own_gallery).images.row(len(before.images))["path"] == new


def test_adding_with_another_model_is_refused(
    own_gallery, finished_run, demo_root, tmp_path, capsys
):
    other = tmp_path / "other.pth"
    other.write_bytes((finished_run / "model_final.pth").read_bytes() + b"\0")
    run("add", own_gallery, pictures(demo_root, (6,))[0], "--weights", other, status=2)
    assert "other.pth is not the model of gallery" in capsys.readouterr().err


def test_a_corrupt_image_is_not_added(own_gallery, demo_root, tmp_path, capsys):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(Path(pictures(demo_root, (6,))[0]).read_bytes()[:200])
    words = ("add", own_gallery, broken, "--modality", "visible", "--device", "cpu")
    run(*words, status=2)
    error = capsys.readouterr().err
    assert f"cannot read image {broken}" in error and "--skip-corrupt" in error
    run(*words, "--skip-corrupt", status=2)
    assert "nothing is added" in capsys.readouterr().err
    run(*words[:3], pictures(demo_root, (6,))[0], *words[3:], "--skip-corrupt")
    assert f"skipped {broken}: " in capsys.readouterr().out
    assert open_gallery(own_gallery).manifest["skipped"][0][0] == str(broken)


def test_bad_calls_end_in_one_line(own_gallery, demo_root, tmp_path, capsys):
    path = pictures(demo_root, (3,))[0]
    before = open_gallery(own_gallery).version
    boxes = tmp_path / "boxes.csv"
    boxes.write_text(f"image,x,y,w,h\n{path},4000,0,5,5\n")
    for words, message in (
        (("query", own_gallery, path, "--camera", "77"), "--camera 77: no image of gallery"),
        (("query", own_gallery, path, "--after", "noon"), "--after: 'noon' is no time"),
        (("query", own_gallery, path, "--where", "a=b"), "has no attribute 'a'"),
        (("query", own_gallery, path, "--pattern", "{x"), "--pattern {x"),
        (("query", own_gallery, path, "--boxes", boxes), "box 4000,0,5,5: the box has no area"),
        (("remove", own_gallery), "name a condition"),
        (("remove", own_gallery, "--path", "*.gif"), "nothing is removed"),
        (("remove", own_gallery, "--before", "2026"), "--before: "),
        (("remove", tmp_path / "none", "--camera", "1"), "none is no gallery"),
        (("add", own_gallery, tmp_path / "none.jpg"), "none.jpg is missing"),
        (("add", own_gallery, path, "--shard", 0), "--shard 0"),
        (("merge", own_gallery, "--out", tmp_path / "m"), "at least two"),
        (("merge", own_gallery, own_gallery, "--out", own_gallery), "exists"),
        (("info", tmp_path), "is no gallery"),
        (("verify", tmp_path), "is no gallery"),
    ):
        if "--before" in words:
            words = (*words[:-1], "2026-99")
        run(*words, status=2)
        error = capsys.readouterr().err
        assert message in error and error.count("error: ") == 1, error
    assert open_gallery(own_gallery).version == before


def test_boxes_in_full_frames(finished_run, demo_root, tmp_path, capsys):
    """The same crop has the same feature, whether it is cut by us or before."""
    frame = pictures(demo_root, (1,))[0]
    width, height = read_image(frame).size
    box = (2, 3, width - 5, height - 6)
    boxes = tmp_path / "boxes.csv"
    with open(boxes, "w", newline="") as file:
        csv.writer(file).writerows(
            [["image", "x", "y", "w", "h", "track"], [frame, *box, 1], [frame, 0, 0, width, 9, 2]]
        )
    out, page = tmp_path / "g", tmp_path / "page.html"
    run(*index_arguments(finished_run, out, frame), "--boxes", boxes)
    cut = tmp_path / "cut.png"
    read_image(frame).crop((box[0], box[1], box[0] + box[2], box[1] + box[3])).save(cut)
    found = query(out, tmp_path, str(cut), "--modality", "visible", "--html", str(page))[0]
    best = found["matches"][0]
    assert best["box"] == list(box) and best["attributes"] == {"track": "1"}
    assert best["similarity"] == pytest.approx(1, abs=1e-4) and best["path"] == frame
    assert len(re.findall("base64,", page.read_text())) == 3
    asked = query(out, tmp_path, frame, "--boxes", str(boxes), "--where", "track=2")
    assert [len(one["matches"]) for one in asked] == [1, 0]  # a box is not its own match
    assert asked[0]["query"]["box"] == list(box)
    run("remove", out, "--where", "track=2")
    (entry,) = journal.removals(out, 2)
    assert entry["rows"][0]["box"] == [0, 0, width, 9]


def test_times_from_a_pattern_filter_a_query(finished_run, demo_root, tmp_path):
    for number, source in enumerate(pictures(demo_root, (1,))[:6]):
        image = tmp_path / f"door{number % 2}/2026110{number + 1}_120000.png"
        image.parent.mkdir(exist_ok=True)
        read_image(source).save(image)
    out = tmp_path / "g"
    pattern = "{camera}/{time:%Y%m%d_%H%M%S}.png"
    folders = [tmp_path / "door0", tmp_path / "door1"]
    arguments = index_arguments(finished_run, out, *folders)
    run(*arguments, "--pattern", pattern, "--modality", "visible")
    asked = pictures(demo_root, (3,))[0]
    between = ("--after", "2026-11-02T12:00", "--before", "2026-11-05T12:00")
    found = query(out, tmp_path, asked, *between)[0]["matches"]
    assert sorted(one["time"][:10] for one in found) == ["2026-11-02", "2026-11-03", "2026-11-04"]
    found = query(out, tmp_path, asked, *between, "--camera", "door1")[0]["matches"]
    assert sorted(one["time"][:10] for one in found) == ["2026-11-02", "2026-11-04"]


def test_a_calibration_is_marked_when_the_gallery_changes(own_gallery, demo_root, tmp_path, capsys):
    people = tmp_path / "people.csv"
    asked = pictures(demo_root, (3, 6))
    lines = [f"{path},stranger {Path(path).parent.name}" for path in asked]
    people.write_text("\n".join(["path,identity", *lines]))
    run("calibrate", own_gallery, "--people", people, "--device", "cpu")
    count = len(open_gallery(own_gallery).images)
    run("add", own_gallery, asked[0], "--device", "cpu")
    told = f"calibrated with {count} images; since then 1 were added and 0 removed"
    assert told in capsys.readouterr().out
    run("query", own_gallery, asked[1], "--far", "0.3", "--device", "cpu")
    assert told in capsys.readouterr().out
    run("info", own_gallery)
    assert told in capsys.readouterr().out
    run("calibrate", own_gallery, "--people", people, "--device", "cpu")
    run("info", own_gallery)
    assert "since then" not in capsys.readouterr().out
    calibrations = json.loads((own_gallery / "gallery.json").read_text())["calibrations"]
    assert np.isfinite(calibrations["infrared"]["impostor"]).all()
