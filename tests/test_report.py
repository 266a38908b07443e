"""tools/report.py: one page, complete and self-contained, that names what is missing."""

import base64
import dataclasses
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
import yaml
from PIL import Image

from icre.commands.report import main
from icre.evaluation.breakdown import METRICS, by_camera_pair, by_identity
from icre.evaluation.compare import Bootstrap, compare
from icre.evaluation.features import FeatureSet
from icre.evaluation.trials import build_trials
from icre.inference.run import Run
from icre.plots.identities import draw_identities
from icre.report.write import SECTIONS
from icre.utils.errors import UserError
from small_features import small_features

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
SOURCE = re.compile(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\')>\s]+)')


@pytest.fixture(scope="module")
def runs(finished_run, tmp_path_factory):
    """The finished run, and one of another config with worse features and no checkpoint."""
    other = tmp_path_factory.mktemp("runs") / "noisy"
    other.mkdir()
    for name in ("metrics.json", "scalars.json"):
        shutil.copy(finished_run / name, other)
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    config["MODEL"]["SDCE"]["ENABLED"] = False
    (other / "config.yaml").write_text(yaml.safe_dump(config))
    data = FeatureSet.load(finished_run)
    noise = np.random.default_rng(0).normal(size=data.features.shape)
    dataclasses.replace(data, features=data.features + 5 * noise).save(other / "features.npz")
    return finished_run, other


@pytest.fixture(scope="module")
def file(runs, tmp_path_factory):
    """The report of both."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    assert (
        main(
            [
                *map(str, runs),
                "--names",
                "<b>ICRE</b>",
                "noisy",
                "--device",
                "cpu",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    return out


@pytest.fixture(scope="module")
def text(file):
    return file.read_text()


def section(text: str, key: str) -> str:
    return re.search(rf'<section id="{key}">.*?</section>', text, re.S)[0]


@pytest.mark.slow
def test_every_section_is_there_and_linked(text):
    for key, (title, _) in SECTIONS.items():
        assert f'<a href="#{key}">{title}</a>' in text and f"<h2>{title}</h2>" in section(text, key)
        assert section(text, key).count("Not shown") == (key == "attention")


@pytest.mark.slow
def test_nothing_comes_from_outside(file, text):
    assert file.stat().st_size < 10e6
    assert "<script" not in text and "http" not in re.sub(r"base64,[^\"]*", "", text)
    for found in SOURCE.findall(text):
        assert found.startswith(("data:", "#")), found


@pytest.mark.slow
def test_pictures_are_whole(text):
    pictures = re.findall(r'src="data:image/(\w+);base64,([^"]+)"', text)
    assert (
        len(pictures) == 10
    )  # cmc, training, 2 x 2 lists, identities, distances, t-SNE, attention
    for kind, data in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.format == kind.upper() and np.asarray(picture.convert("L")).std() > 5


@pytest.mark.slow
def test_names_are_text(text):
    assert "<b>ICRE" not in text and "&lt;b&gt;ICRE&lt;/b&gt;" in text


@pytest.mark.slow
def test_figures_are_the_records_and_the_comparison_that_of_the_tool(runs, text):
    first, second = (Run(run) for run in runs)
    part = section(text, "results")
    for record in first.records:
        cell = record["mAP"]
        assert f"<td>{cell['mean']:.2f} ± {cell['std']:.2f}</td>" in part
        assert f"{record['protocol']}, {record['draw']} draw" in part
    found = compare(
        first.features, second.features, perm=first.permutation_file, bootstrap=Bootstrap()
    )
    cell = found["all"]["mAP"]
    assert f"{cell['difference']:+.2f} [{cell['low']:+.2f}, {cell['high']:+.2f}]" in part
    assert "noisy minus &lt;b&gt;ICRE" in part


@pytest.mark.slow
def test_settings_that_differ_stand_together(text):
    part = section(text, "settings").split("<details>")[0]
    keys = re.findall(r'<td class="text">([A-Z]+\.[\w.]+)</td>', part)
    assert keys == ["MODEL.SDCE.ENABLED"]


@pytest.mark.slow
def test_data_are_counted(text):
    part = section(text, "data")
    # conftest's TINY: 10 people, 2 infrared cameras of 2 images; 4 test people, 3 images per camera
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in part.split("<tr")]
    assert ["", "infrared", "", "10", "40"] in rows
    assert part.count(">12</td>") == 6


def test_missing_parts_are_named(finished_run, tmp_path, capsys):
    shutil.copy(finished_run / "config.yaml", tmp_path)
    assert main([str(tmp_path), "--names", "bare", "--without", "cost"]) == 0
    text = (tmp_path / "report.html").read_text()
    lacking = {"results": "metrics", "embedding": "features", "curves": "scalars"}
    for key, name in (lacking | {"attention": "model_final"}).items():
        assert re.search(rf"Not shown: .*{name}", section(text, key)), key
    assert 'id="cost"' not in text and "report.html (0." in capsys.readouterr().out


def test_other_data_are_not_compared(runs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    data = FeatureSet.load(other)
    data.take(data.pids != data.pids[0]).save(other / "features.npz")
    skipped = ["settings", "data", "curves", "rankings", "distances", "attention", "cost"]
    assert (
        main(
            [
                str(runs[0]),
                str(other),
                "--without",
                *skipped,
                "--draw",
                "seeded",
                "--out",
                str(tmp_path / "a.html"),
            ]
        )
        == 0
    )
    text = (tmp_path / "a.html").read_text()
    assert "not the same data" in section(text, "results")
    assert "features of different images" in section(text, "embedding")


# words -> what the message must name
REFUSED = {
    "nowhere": "nowhere",
    "RUN RUN": "--names",
    "RUN --names a b": "2 for 1",
    "RUN --without all": "results, settings",
    "RUN --out a.pdf": "--out a.pdf",
}


@pytest.mark.parametrize("words", REFUSED)
def test_bad_input_ends_in_one_line(words, finished_run, capsys):
    argv = [str(finished_run) if word == "RUN" else word for word in words.split()]
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and REFUSED[words] in error


def test_breakdowns_are_those_of_the_comparison_and_of_a_loop():
    data, (setting, *_) = build_trials(small_features("sysu"), ["sysu-all-single"])
    found = compare(data, data, "sysu-all-single", "seeded", bootstrap=Bootstrap(10))
    pairs = by_camera_pair(data, setting)
    assert [(row["query"], row["gallery"], row["queries"]) for row in pairs] == [
        (row["query"], row["gallery"], row["queries"]) for row in found["cameras"]
    ]
    for row, wanted in zip(pairs, found["cameras"]):
        assert [row[name] for name in METRICS] == pytest.approx(
            [wanted[n]["first"] for n in METRICS]
        )
    people = by_identity(data, setting)
    assert [row["pid"] for row in people] == sorted(set(data.pids[setting.query]))
    # every query has a match in every trial, so people weigh by their queries
    total = sum(row["queries"] for row in people)
    assert sum(row["mAP"] * row["queries"] for row in people) / total == pytest.approx(
        found["all"]["mAP"]["first"]
    )


def test_identities_stand_from_worst_to_best():
    axes = draw_identities({"a": {7: 50, 8: 10}, "b": {7: 60, 8: 30, 9: 1}}, "mAP, %").axes[0]
    assert [
        line.get_ydata().tolist() if hasattr(line.get_ydata(), "tolist") else list(line.get_ydata())
        for line in axes.lines
    ] == [[10, 50], [30, 60]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "7"]
    with pytest.raises(UserError, match="share no identity"):
        draw_identities({"a": {1: 5}, "b": {2: 5}}, "mAP, %")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine to open the page with")
def test_a_browser_shows_it_without_complaint(file, tmp_path):
    picture = tmp_path / "page.png"
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path}/profile",
        "--enable-logging=stderr",
        "--window-size=1100,3000",
    ]
    shot = subprocess.run(
        [*command, f"--screenshot={picture}", file.as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    dom = subprocess.run(
        [*command, "--dump-dom", file.as_uri()],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in shot.stderr + dom.stderr and "ERR_" not in shot.stderr + dom.stderr
    assert all(f'<section id="{key}">' in dom.stdout for key in SECTIONS)
    with Image.open(picture) as image:
        assert image.size == (1100, 3000) and np.asarray(image.convert("L")).std() > 10
