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


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn(name, finished_run, a_person, tmp_path, capsys):
    words = FIGURES[name].replace("RUN", str(finished_run)).replace("PERSON", a_person).split()
    out = tmp_path / f"{name}.png"
    assert main([*words, "--out", str(out), "--dpi", "80"]) == 0
    assert f"written: {out}" in capsys.readouterr().out
    with Image.open(out) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[1] >= 200 and pixels.std() > 5  # neither tiny nor blank


@pytest.mark.parametrize(
    "words",
    [
        "distances RUN --out a.pdf",
        "distances RUN --out a.svg",
        "embedding RUN --identities 3 --out a.png",
        "attention RUN --people 1 --images 1 --show gradcam cross --device cpu --out a.svg",
    ],
)
def test_formats_and_equal_bytes(words, finished_run, tmp_path):
    *argv, name = words.replace("RUN", str(finished_run)).split()
    files = [tmp_path / number / name for number in "12"]
    for file in files:
        file.parent.mkdir()
        assert main([*argv, str(file)]) == 0
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


REFUSED = {
    "distances RUN --out a.gif": "--out a.gif: the suffix decides the format",
    "distances nowhere": "nowhere: no such file",
    "distances UNLABELLED": "no array 'pids'",
    "distances RUN RUN": "are not all different",
    "distances RUN --names a b": "--names: 2 for 1 models",
    "ranking RUN --pick 99999": "identity 99999 asks nothing here",
    "ranking RUN --pick best": "--pick best: use one of even, random, worst, or identities",
    "ranking RUN --queries 0": "--queries 0: at least 1",
    "ranking RUN --protocol llcm-v2n": "is a protocol of llcm",
    "ranking MOVED": "where its images lie is not known: add --root",
    "ranking MOVED --root nowhere": "--root nowhere: no such folder",
    "embedding RUN --pick 99999": "identity 99999 is not seen in both modalities",
    "embedding RUN --method umap": "--method umap: use tsne, pca",
    "embedding RUN --identities 99": "99 identities are asked for",
    "attention RUN --pick 99999": "identity 99999 is not seen in both modalities",
    "attention RUN --images 0": "must be at least 1",
    "attention RUN --layer layer9": "--layer layer9: no such module",
    "attention RUN --show heat": "--show heat: use gradcam, hirescam, layercam, masks, cross",
    "attention BARE": "has no model_final.pth",
    "attention MOVED": "has no model_final.pth",
    "curves training MOVED": "scalars.json: no such file",
    "curves training RUN --protocol llcm-v2n": "no run logged llcm-v2n",
    "curves sweep BROKEN": "is no result of a sweep over numbers",
    "curves sweep RUN": "results.json: no such file",
    "curves sweep RUN RUN --names a b": "curves sweep draws one ablation, 2 are named",
    "curves cmc RUN --ranks 1": "--ranks 1: a curve needs at least 2",
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_input_ends_in_one_line(words, finished_run, tmp_path, capsys):
    features = FeatureSet.load(finished_run)
    np.savez(tmp_path / "unlabelled.npz", features=features.features)
    (tmp_path / "moved").mkdir()
    features.save(tmp_path / "moved/features.npz")
    (tmp_path / "bare").mkdir()
    shutil.copy(finished_run / "config.yaml", tmp_path / "bare")
    (tmp_path / "bare/last_checkpoint").write_text("gone.pth")
    (tmp_path / "results.json").write_text('{"sweep": "A", "rows": [{"row": "b"}]}')
    places = {
        "RUN": finished_run,
        "UNLABELLED": tmp_path / "unlabelled.npz",
        "MOVED": tmp_path / "moved",
        "BARE": tmp_path / "bare",
        "BROKEN": tmp_path,
    }
    argv = [str(places.get(word, word)) for word in words.split()]
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
