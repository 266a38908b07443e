"""tools/search.py from index to page, and its errors."""

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import train, words
from icre.commands import search
from icre.evaluation.features import FeatureSet
from icre.gallery.answers import answer
from icre.gallery.calibration import Calibration
from icre.gallery.columns import Columns
from icre.gallery.page import save_page
from icre.gallery.shards import Shard
from icre.gallery.store import open_gallery
from icre.inference.extractor import FeatureExtractor
from icre.inference.run import open_model
from icre.modality import INFRARED
from icre.utils.errors import UserError
from small_model import NARROW

VISIBLE_CAMERAS, INFRARED_CAMERAS = (1, 2, 4, 5), (3, 6)


def index_arguments(run: Path, out: Path, *sources: str | Path) -> list[str]:
    return [
        "index",
        *map(str, sources),
        "--weights",
        str(run),
        "--out",
        str(out),
        "--device",
        "cpu",
    ]


def camera_folders(root: Path, cameras: tuple[int, ...]) -> list[Path]:
    return [root / "SYSU-MM01" / f"cam{camera}" for camera in cameras]


def pictures(root: Path, cameras: tuple[int, ...]) -> list[str]:
    return [
        str(path)
        for folder in camera_folders(root, cameras)
        for path in sorted(folder.rglob("*.jpg"))
    ]


def ids_of_test(root: Path) -> list[str]:
    return (root / "SYSU-MM01/exp/test_id.txt").read_text().strip().split(",")


@pytest.fixture(scope="session")
def gallery(finished_run, demo_root, tmp_path_factory) -> Path:
    """All visible images of the tiny tree, of training and test people; not to be changed."""
    out = tmp_path_factory.mktemp("galleries") / "visible"
    sources = camera_folders(demo_root, VISIBLE_CAMERAS)
    assert search.main(index_arguments(finished_run, out, *sources)) == 0
    return out


@pytest.fixture
def own_gallery(gallery, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(gallery, tmp_path / "gallery"))


@contextmanager
def computed_images() -> Iterator[list]:
    """The images whose features are computed while this is entered."""
    computed, batches = [], FeatureExtractor.batches

    def counted(extractor, images, modalities):
        computed.extend(images)
        return batches(extractor, images, modalities)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractor, "batches", counted)
        yield computed


@contextmanager
def interrupted_after(saves: int) -> Iterator[None]:
    """The program is interrupted when so many shards are saved."""
    save, saved = Shard.save, []

    def save_and_end(shard: Shard, *content: object) -> None:
        save(shard, *content)
        saved.append(shard)
        if len(saved) == saves:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shard, "save", save_and_end)
        yield


def query(gallery: Path, tmp_path: Path, *arguments: str) -> list[dict]:
    """The answers as JSON."""
    out = tmp_path / "answers.json"
    assert search.main(["query", str(gallery), *arguments, "--json", str(out)]) == 0
    return json.loads(out.read_text())


def mean_ap(hits: np.ndarray) -> float:
    """Mean average precision of (Q, G) ranked hits."""
    places = np.arange(1, hits.shape[1] + 1)
    return float(np.mean([(row.cumsum() / places)[row].mean() for row in hits]))


@pytest.mark.slow
def test_the_demos_people_are_found(demo_root, tmp_path):
    """Infrared queries of training people, by a model of four tiny epochs: far above chance.

    (Its test people are at chance: the model has seen ten people, for forty steps.)
    """
    run, gallery = tmp_path / "run", tmp_path / "gallery"
    options = words("MODEL.MPFR.DIM 32 SOLVER.MAX_EPOCH 4 SOLVER.BASE_LR 0.003")
    train(demo_root, run, *map(str, NARROW), *options)
    sources = camera_folders(demo_root, VISIBLE_CAMERAS)
    assert search.main(index_arguments(run, gallery, *sources)) == 0
    test = ids_of_test(demo_root)
    asked = [
        path
        for path in pictures(demo_root, INFRARED_CAMERAS)
        if str(int(Path(path).parent.name)) not in test
    ]
    count = len(open_gallery(gallery).images)
    answers = query(gallery, tmp_path, *asked, "--top", str(count))
    assert [one["query"]["path"] for one in answers] == asked
    hits = np.array([[match["right"] for match in one["matches"]] for one in answers])
    assert hits.shape == (len(asked), count)
    generator = np.random.default_rng(0)
    chance = [mean_ap(generator.permuted(hits, axis=1)) for _ in range(200)]
    assert mean_ap(hits) > np.mean(chance) + 5 * np.std(chance)
    assert mean_ap(hits) > 1.4 * np.mean(chance)


def test_what_is_found_is_what_the_features_say(gallery, finished_run, demo_root, tmp_path):
    path = pictures(demo_root, (3,))[0]
    found = query(gallery, tmp_path, path, "--top", "7")[0]
    opened = open_gallery(gallery)
    feature = open_model(finished_run, "MODEL.DEVICE", "cpu").features([path], [INFRARED])[0]
    similarity = np.asarray(opened.features) @ feature
    order = np.argsort(-similarity, kind="stable")[:7]
    assert [match["path"] for match in found["matches"]] == [opened.images.paths[n] for n in order]
    assert [match["similarity"] for match in found["matches"]] == pytest.approx(
        similarity[order].tolist(), abs=1e-5
    )
    assert found["matches"][0]["modality"] == "visible" and found["here"] is None


def test_features_are_those_of_the_evaluation(gallery, finished_run):
    stored = FeatureSet.load(finished_run)
    expected = dict(zip(stored.paths.tolist(), stored.features))
    opened, seen = open_gallery(gallery), 0
    for path, feature in zip(opened.images.paths, opened.features):
        known = expected.get("/".join(Path(path).parts[-3:]))
        if known is not None:
            np.testing.assert_allclose(feature, known / np.linalg.norm(known), atol=1e-5)
            seen += 1
    assert seen > 20


def test_the_querys_own_file_is_passed_over(gallery, demo_root, tmp_path):
    path = pictures(demo_root, (1,))[0]
    found = query(gallery, tmp_path, path, "--top", "3")[0]
    assert path not in [match["path"] for match in found["matches"]] and len(found["matches"]) == 3
    assert query(gallery, tmp_path, path, "--rerank", "fastreid")[0]["matches"][0]["path"] != path


@pytest.mark.slow
def test_reranking_reorders_and_one_query_does_not_touch_another(gallery, demo_root, tmp_path):
    paths = pictures(demo_root, (3,))[:3]
    plain = query(gallery, tmp_path, paths[0], "--top", "20")[0]
    for algorithm in ("fastreid", "original"):
        together = query(gallery, tmp_path, *paths, "--top", "20", "--rerank", algorithm)
        alone = query(gallery, tmp_path, paths[0], "--top", "20", "--rerank", algorithm)
        listed = [match["path"] for match in together[0]["matches"]]
        assert listed == [match["path"] for match in alone[0]["matches"]]
        assert listed != [match["path"] for match in plain["matches"]]
        distances = [match["distance"] for match in alone[0]["matches"]]
        assert distances == sorted(distances) and alone[0]["rerank"] == algorithm
        assert alone[0]["best"] == plain["best"]


@pytest.mark.slow
def test_indexing_continues_after_an_interruption(
    gallery, finished_run, demo_root, tmp_path, capsys
):
    """Shards of four images; the program ends after the third is saved."""
    out = tmp_path / "g"
    sources = camera_folders(demo_root, VISIBLE_CAMERAS)
    arguments = [*index_arguments(finished_run, out, *sources), "--shard", "4"]
    with interrupted_after(3):
        assert search.main(arguments) == 130
        assert "interrupted" in capsys.readouterr().err
    assert not out.exists()
    assert search.main(["query", str(out), pictures(demo_root, (3,))[0]]) == 2
    assert "g is unfinished" in capsys.readouterr().err
    assert len(list(tmp_path.glob("g.partial/shards/*.npz"))) == 3

    with computed_images() as computed:
        assert search.main(arguments) == 0
    one, other = open_gallery(out), open_gallery(gallery)
    shards = -(-len(one.images) // 4)
    assert f"going on: 3 of {shards} shards are there" in capsys.readouterr().out
    assert computed == list(one.images.paths[12:])
    assert [path.name for path in tmp_path.iterdir()] == ["g"]
    assert one.images.paths == other.images.paths
    np.testing.assert_allclose(one.features, other.features, atol=1e-5)


@pytest.mark.slow
def test_a_corrupt_image_stops_unless_it_may_be_skipped(finished_run, own_root, tmp_path, capsys):
    out, folder = tmp_path / "g", own_root / "SYSU-MM01" / "cam1"
    broken = sorted(folder.rglob("*.jpg"))[5]
    broken.write_bytes(broken.read_bytes()[:200])
    arguments = [*index_arguments(finished_run, out, folder), "--shard", "4"]
    assert search.main(arguments) == 2
    error = capsys.readouterr().err
    assert f"cannot read image {broken}: " in error and "--skip-corrupt" in error
    assert not out.exists()
    assert search.main([*arguments, "--skip-corrupt"]) == 0
    assert f"skipped {broken}: " in capsys.readouterr().out
    opened = open_gallery(out)
    assert [path for path, _ in opened.manifest["skipped"]] == [str(broken)]
    assert len(opened.images) == len(list(folder.rglob("*.jpg"))) - 1


def test_another_model_is_refused(own_gallery, finished_run, demo_root, tmp_path, capsys):
    path = pictures(demo_root, (3,))[0]
    other = str(shutil.copy(finished_run / "model_final.pth", tmp_path / "moved.pth"))
    assert search.main(["query", str(own_gallery), path, "--weights", other]) == 0
    with open(other, "ab") as file:
        file.write(b"\0")
    assert search.main(["query", str(own_gallery), path, "--weights", other]) == 2
    assert "moved.pth is not the model" in capsys.readouterr().err
    assert search.main(["query", str(own_gallery), path, "--weights", "none.pth"]) == 2
    assert "none.pth is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_bad_calls_end_in_one_line(gallery, finished_run, demo_root, tmp_path, capsys):
    path, plain = pictures(demo_root, (3,))[0], tmp_path / "plain.jpg"
    shutil.copy(path, plain)
    cam1 = demo_root / "SYSU-MM01" / "cam1"
    fresh = index_arguments(finished_run, tmp_path / "g", cam1)
    for arguments, message in (
        (["query", str(gallery), str(plain)], "plain.jpg: "),
        (["query", str(gallery), path, "--far", "0.01"], "not calibrated for infrared queries"),
        (["query", str(gallery), path, "--far", "2"], "--far 2"),
        (["query", str(gallery), path, "--top", "0"], "--top 0"),
        (index_arguments(finished_run, gallery, cam1), "exists"),
        ([*fresh, "--index", "ivfpq"], "ivfpq needs 256 images"),
        ([*fresh, "--shard", "0"], "--shard 0"),
    ):
        assert search.main(arguments) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("error: ") == 1
    assert search.main(["query", str(gallery), str(plain), "--modality", "infrared"]) == 0


@pytest.mark.slow
def test_calibrated_on_people_who_are_not_here(own_gallery, demo_root, tmp_path, capsys):
    """The tiny tree's held-out people are in the gallery; a table calls them by other names."""
    assert search.main(["calibrate", str(own_gallery), "--root", str(demo_root)]) == 2
    assert "identities are in the gallery" in capsys.readouterr().err
    people = tmp_path / "people.csv"
    asked = pictures(demo_root, INFRARED_CAMERAS)
    lines = [f"{path},stranger {Path(path).parent.name}" for path in asked]
    people.write_text("\n".join(["path,identity", *lines]))
    assert search.main(["calibrate", str(own_gallery), "--people", str(people)]) == 0
    told = capsys.readouterr().out
    assert "FAR per search" in told and "left out" not in told
    both = [str(people), str(camera_folders(demo_root, (1,))[0])]
    assert search.main(["calibrate", str(own_gallery), "--people", *both]) == 0
    assert "left out, such as sysu" in capsys.readouterr().out
    answers = query(own_gallery, tmp_path, *asked, "--far", "0.2")
    share = np.mean([one["here"] for one in answers])
    assert 0 < share <= 0.2 + 1 / len(answers)  # the calibration's own searches, to rounding
    assert all(one["here"] == (one["best"] > one["threshold"]) for one in answers)
    for one in answers:
        assert all(
            match["accepted"] == (match["similarity"] > one["threshold"])
            for match in one["matches"]
        )
    assert query(own_gallery, tmp_path, pictures(demo_root, (1,))[0])[0]["here"] is None


@pytest.mark.slow
def test_held_out_people_that_were_trained_on_are_told(finished_run, demo_root, tmp_path, capsys):
    out = tmp_path / "g"
    sources = [
        folder / f"{int(pid):04d}"
        for folder in camera_folders(demo_root, (1, 2))
        for pid in ids_of_test(demo_root)
    ]
    assert search.main(index_arguments(finished_run, out, *filter(Path.is_dir, sources))) == 0
    assert search.main(["calibrate", str(out)]) == 0
    assert "warning: the model was trained on" in capsys.readouterr().out
    assert search.main(["query", str(out), pictures(demo_root, (3,))[0], "--far", "0.3"]) == 0
    assert "not assured" in capsys.readouterr().out


def test_a_stranger_is_answered_not_here(gallery):
    """By hand: a threshold between the similarity of an own image and that of all others."""
    opened = open_gallery(gallery)
    queries = replace(opened.images.take([0]), paths=["/q.jpg"])
    feature = np.array(opened.features[:1])
    for level, here in ((0.9999, True), (1.5, False)):
        learned = {"visible": Calibration([level] * 99, [], [], 9, "test", True)}
        calibrated = replace(opened, calibrations=learned)
        found = answer(calibrated, queries, feature, top=3)[0]
        assert (found.here, found.verdict) == (here, "here" if here else "not here")
        assert found.far == 0.01 and found.threshold == level
        assert found.matches[0].accepted is here
    with pytest.raises(UserError, match=r"0\.01 at the lowest"):
        answer(calibrated, queries, feature, far=0.001)


@pytest.mark.slow
def test_the_page_holds_everything(gallery, demo_root, tmp_path):
    path = tmp_path / "page.html"
    asked = pictures(demo_root, (3, 6))[:4]
    assert search.main(["query", str(gallery), *asked, "--top", "6", "--html", str(path)]) == 0
    text = path.read_text()
    assert not re.search(r"https?:|src=\"(?!data:)|<script|url\(", text)
    embedded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(embedded) == 4 * (1 + 6)
    shown = Image.open(io.BytesIO(base64.b64decode(embedded[0])))
    stored = Image.open(asked[0]).convert("RGB").resize(shown.size, Image.BICUBIC)
    assert np.abs(np.asarray(shown, float) - np.asarray(stored, float)).mean() < 10
    assert text.count('class="right') + text.count('class="wrong') == 24


def test_the_page_escapes_names_and_survives_lost_images(gallery, tmp_path):
    opened = open_gallery(gallery)
    table, count = opened.images.table(), len(opened.images)
    names = {"paths": ["/gone/<b>.jpg"] * count, "identities": ["<script>"] * count}
    segment = replace(opened.segments[0], columns=Columns.of(replace(table, **names)))
    lost = replace(opened, segments=[segment])
    queries = replace(opened.images.take([0]), paths=["/q.jpg"], identities=[""])
    answers = answer(lost, queries, np.array(opened.features[:1]), top=2)
    save_page(answers, tmp_path / "p.html", "<t>")
    text = (tmp_path / "p.html").read_text()
    assert "<script" not in text and "&lt;script&gt;" in text and "&lt;t&gt;" in text
    assert text.count("cannot be read") == 3
    assert 'class=""' in text  # neither right nor wrong
