"""tools/visualize.py on a finished run: every figure, every format, every refusal in one line."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from icre.commands.visualize import main
from icre.evaluation.features import FeatureSet


@pytest.fixture(scope="module")
def a_person(finished_run) -> str:
    return str(FeatureSet.load(finished_run).pids[0])


SMALL = ("--dpi", "60")  # drawing takes most of the time
FIGURES = {
    "ranking": "ranking RUN --queries 2 --top 3 --pick worst",
    "people": "ranking RUN --queries 1 --pick PERSON --width 3.3 --no-title",
    "distances": "distances RUN RUN/features.npz --names a b",
    "embedding": "embedding RUN --method pca --identities 3",
    "gradcam": "attention RUN --people 1 --images 2 --device cpu "
    "--show gradcam hirescam layercam masks cross",
    "two": "attention RUN RUN/model_final.pth --names baseline ICRE --pick PERSON --images 1 "
    "--layer backbone.stages.layer3",
    "cmc": "curves cmc RUN --protocol sysu-indoor-single --draw seeded",
    "training": "curves training RUN",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(name, finished_run, a_person, tmp_path, capsys):
    words = FIGURES[name].replace("RUN", str(finished_run)).replace("PERSON", a_person).split()
    out = tmp_path / f"{name}.png"
    assert main([*words, "--out", str(out), "--dpi", "80"]) == 0
    assert f"written: {out}" in capsys.readouterr().out
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[1] >= 200 and pixels.std() > 5  # neither tiny nor blank


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "distances RUN --out a.pdf",
        "embedding RUN --identities 3 --out a.png",
        "attention RUN --people 1 --images 1 --show gradcam cross --device cpu --out a.svg",
    ],
)
def test_formats_and_equal_bytes(words, finished_run, tmp_path):
    *argv, name = words.replace("RUN", str(finished_run)).split()
    files = [tmp_path / number / name for number in "12"]
    for file in files:
        file.parent.mkdir()
        assert main([*argv, str(file), *SMALL]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_sweeps_curve_comes_from_its_results(tmp_path):
    rows = [
        {"row": value, "Rank-1": {"mean": 40, "std": 1}, "mAP": {"mean": 30, "std": 1}}
        for value in ("0.5", "1.0")
    ]
    content = {
        "protocol": "regdb-v2t",
        "draw": None,
        "sweep": "MODEL.LOSSES.ICG.SCALE",
        "rows": rows,
    }
    (tmp_path / "results.json").write_text(json.dumps(content))
    out = tmp_path / "curve.svg"
    assert main(["curves", "sweep", str(tmp_path), "--out", str(out)]) == 0
    assert out.stat().st_size > 1000


ROW = {"row": "1", "Rank-1": {"mean": 40, "std": 1}, "mAP": {"mean": 30, "std": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"rows": []},
        {"rows": {}},
        {"rows": [1]},
        {"rows": [ROW | {"row": "a"}]},
        {"rows": [ROW | {"mAP": 1}]},
        {"rows": [ROW | {"mAP": {"mean": None, "std": 1}}]},
        {"rows": [ROW | {"mAP": {"mean": 1, "std": -1}}]},
        {"rows": [ROW | {"mAP": {"mean": [1], "std": 1}}]},
        {"sweep": ["A"]},
        {"protocol": {}},
        {"draw": 1},
        None,
    ],
)
def test_results_of_other_shapes_end_in_one_line(change, tmp_path, capsys):
    content = {"protocol": "regdb-v2t", "draw": None, "sweep": "A", "rows": [ROW]}
    content = [content] if change is None else content | change
    (tmp_path / "results.json").write_text(json.dumps(content))
    out = tmp_path / "curve.svg"
    assert main(["curves", "sweep", str(tmp_path), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "results.json" in error and error.count("\n") == 1 and not out.exists()


# words -> what the message must name
REFUSED = {
    "distances RUN --out a.gif": "--out a.gif",
    "distances nowhere": "nowhere",
    "distances UNLABELLED": "'pids'",
    "distances RUN RUN": "--names",
    "distances RUN --names a b": "2 for 1",
    "ranking RUN --pick 99999": "99999",
    "ranking RUN --pick best": "even, random, worst",
    "ranking RUN --queries 0": "--queries 0",
    "ranking RUN --protocol llcm-v2n": "llcm",
    "ranking MOVED": "--root",
    "ranking MOVED --root nowhere": "--root nowhere",
    "embedding RUN --pick 99999": "99999",
    "embedding RUN --method umap": "tsne, pca",
    "embedding RUN --identities 99": "99",
    "attention RUN --pick 99999": "99999",
    "attention RUN --people 99": "99",
    "attention RUN --images 0": "--images",
    "attention RUN --layer layer9": "layer9",
    "attention RUN --show heat": "gradcam, hirescam, layercam, masks, cross",
    "attention BARE": "model_final.pth",
    "attention RUN BARE": "model_final.pth",
    "curves training MOVED": "scalars.json",
    "curves training RUN --protocol llcm-v2n": "llcm-v2n",
    "curves sweep BROKEN": "results.json",
    "curves sweep RUN": "results.json",
    "curves sweep RUN RUN --names a b": "2 are named",
    "curves cmc RUN --ranks 1": "--ranks 1",
}


@pytest.fixture(scope="module")
def sources(finished_run, tmp_path_factory) -> dict[str, str]:
    """A run, and sources that lack something."""
    folder = tmp_path_factory.mktemp("sources")
    features = FeatureSet.load(finished_run)
    np.savez(folder / "unlabelled.npz", features=features.features)
    features.save(folder / "moved/features.npz")
    (folder / "bare").mkdir()
    shutil.copy(finished_run / "config.yaml", folder / "bare")
    (folder / "results.json").write_text('{"sweep": "A", "rows": [{"row": "b"}]}')
    return {
        "RUN": str(finished_run),
        "UNLABELLED": str(folder / "unlabelled.npz"),
        "MOVED": str(folder / "moved"),
        "BARE": str(folder / "bare"),
        "BROKEN": str(folder),
    }


@pytest.mark.parametrize("words", REFUSED)
def test_bad_input_ends_in_one_line(words, sources, tmp_path, capsys):
    argv = [sources.get(word, word) for word in words.split()]
    argv += [] if "--out" in argv else ["--out", str(tmp_path / "out.png")]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and REFUSED[words] in error
    assert not (tmp_path / "out.png").exists()


def test_tensorboard_has_the_ranking_picture(finished_run):
    events = EventAccumulator(str(finished_run)).Reload()
    assert "ranking/SYSUMM01" in events.Tags()["images"]
    image = events.Images("ranking/SYSUMM01")[0]
    with Image.open(finished_run / "ranking.png") as picture:
        assert (image.width, image.height) == picture.size
