"""DATASETS.TABLE: a data set from a table, its protocols, and every command on it."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import CONFIGS, SHORT, words
from icre.config import load_config
from icre.datasets import load_dataset
from icre.datasets.doctor import examine_table
from icre.datasets.protocol import find
from icre.datasets.sysu import SYSUMM01
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score
from icre.modality import INFRARED, NAMES
from icre.utils.errors import UserError
from test_imports import icre

CONFIG = str(CONFIGS / "Demo/icre_r18.yml")
SMALL = (*SHORT, *words("MODEL.MPFR.DIM 32 SOLVER.MAX_EPOCH 1"))
HEADER = ("path", "identity", "camera", "modality", "split")


def rows_of(root: Path) -> list[dict[str, str]]:
    """A tree in SYSU-MM01's layout as rows of a table, with names for people and cameras."""
    data = SYSUMM01(root=root)
    train = [(path, *(int(str(label).split("_")[1]) for label in rest), "train")
             for path, *rest in data.train]  # fmt: skip
    test = [(*item, "test") for item in (*data.query, *data.gallery)]
    return [
        dict(zip(HEADER, (path, f"p{pid:03d}", f"door {camera}", NAMES[data.modality_of(path)], s)))
        for path, pid, camera, s in train + test
    ]


def write(file: Path, rows: list[dict[str, str]]) -> Path:
    with open(file, "w", newline="") as opened:
        writer = csv.DictWriter(opened, [*rows[0]])
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.fixture
def rows(demo_root):
    return rows_of(demo_root)


@pytest.fixture
def table(rows, tmp_path):
    return write(tmp_path / "people.csv", rows)


def test_a_table_is_the_set_that_it_lists(table, demo_root):
    cfg = load_config(CONFIG, ["DATASETS.TABLE", str(table)])
    assert cfg.DATASETS.NAMES == cfg.DATASETS.TESTS == ("Table",)
    data, tree = load_dataset(cfg, "Table"), SYSUMM01(root=demo_root)
    assert [item[0] for item in data.train] == [item[0] for item in tree.train]
    for side in ("query", "gallery"):
        assert [item[0] for item in getattr(data, side)] == [
            item[0] for item in getattr(tree, side)
        ]
    assert data.layout == "people" and data.train[0][1].startswith("people_")
    assert all(data.modality_of(path) == INFRARED for path, *_ in data.query)


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolons", "parquet"])
def test_kinds_of_tables(kind, rows, tmp_path):
    suffix = "csv" if kind == "semicolons" else kind
    file = tmp_path / f"people.{suffix}"
    if kind == "parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = {name: [row[name] for row in rows] for name in HEADER}
        columns["identity"] = [float(name[1:]) for name in columns["identity"]]
        parquet.write_table(pytest.importorskip("pyarrow").table(columns), file)
    else:
        separator = {"csv": ",", "tsv": "\t", "semicolons": ";"}[kind]
        lines = [separator.join(HEADER), *(separator.join(row.values()) for row in rows)]
        file.write_text("\ufeff" + "\n".join(lines))
    data = load_dataset(load_config(CONFIG, ["DATASETS.TABLE", str(file)]), "Table")
    assert len(data.train) == sum(row["split"] == "train" for row in rows)


def test_paths_below_the_tables_folder(rows, tmp_path, demo_root):
    os.symlink(demo_root, tmp_path / "images")
    below = [{**row, "path": f"images/{os.path.relpath(row['path'], demo_root)}"} for row in rows]
    data = load_dataset(
        load_config(CONFIG, ["DATASETS.TABLE", str(write(tmp_path / "people.csv", below))]), "Table"
    )
    assert data.train[0][0] == str(tmp_path / below[0]["path"])


def change(column: str, value: str, row: int = 3):
    return lambda rows: rows[row].update({column: value})


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("a.csv", change("modality", "sketch"), r"line 5: modality 'sketch' is none of visible"),
        ("a.csv", change("split", "tests"), r"line 5: split 'tests' is none of train, val, test"),
        ("a.csv", change("identity", ""), "line 5: identity is needed, and it is blank"),
        ("a.csv", change("path", "no/such.jpg"), "line 5: no/such.jpg is no image file"),
        ("a.csv", change("path", "/etc/passwd"), "line 5: /etc/passwd is no image file"),
        ("a.csv", lambda rows: rows.append(rows[0]), "is in a line above"),
        ("a.csv", change("split", "test", 0), "identities .* are in both the train and the test"),
        ("a.csv", lambda rows: [row.pop("split") for row in rows], "split is needed, and the head"),
        ("a.csv", lambda rows: [row.update(pid="1") for row in rows], "do you mean identity"),
        ("sysu.csv", lambda rows: None, "sysu is the name of another set: rename"),
        ("any.csv", lambda rows: None, "any is the name of another set"),
        ("my people.csv", lambda rows: None, "must be letters, digits and _"),
        ("people.xlsx", lambda rows: None, r"a table ends in \.csv, \.tsv, \.parquet"),
    ],
)
def test_bad_tables_are_one_line(name, edit, said, rows, tmp_path):
    edit(rows)
    file = write(tmp_path / name, rows)
    with pytest.raises(UserError, match=said) as caught:
        load_dataset(load_config(CONFIG, ["DATASETS.TABLE", str(file)]), "Table")
    assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    report = examine_table(file, progress=False)
    assert report.errors == [str(caught.value)] and report.verdict.startswith("NOT USABLE")


def test_a_missing_or_damaged_table(tmp_path):
    with pytest.raises(UserError, match=r"DATASETS\.TABLE: no file"):
        load_dataset(load_config(CONFIG, ["DATASETS.TABLE", str(tmp_path / "a.csv")]), "Table")
    pytest.importorskip("pyarrow")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UserError, match=r"a\.parquet is no Parquet file"):
        load_dataset(load_config(CONFIG, ["DATASETS.TABLE", str(tmp_path / "a.parquet")]), "Table")


def test_the_data_doctor_counts_a_table(table, rows):
    report = examine_table(table, progress=False)
    assert not report.errors and not report.warnings and report.images == len(rows)
    total = {row.role: row for row in report.rows if row.modality is None}
    assert total["train"].images == sum(row["split"] == "train" for row in rows)
    assert report.verdict == f"COMPLETE: {len(rows)} images, all readable."
    Path(rows[0]["path"]).stat()
    broken = table.parent / "broken.jpg"
    broken.write_bytes(b"no image")
    rows[0]["path"] = str(broken)
    assert str(broken) in examine_table(write(table, rows), progress=False).errors[0]


def random_features(seed: int = 0, dataset: str = "people") -> FeatureSet:
    generator = np.random.default_rng(seed)
    pids, camids = np.repeat(np.arange(12), 8), np.tile(np.repeat(np.arange(4), 2), 12)
    features = np.eye(12)[pids] + generator.normal(0, 0.6, (96, 12))
    paths = [f"img/{number:03d}.jpg" for number in range(96)]
    return FeatureSet(features, pids, camids, camids % 2, paths, dataset)


def by_loops(data: FeatureSet, query: int, other_cameras: bool) -> tuple[float, float]:
    """Rank-1 and mAP in percent, image by image."""
    rows = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    first, precision = [], []
    for q in np.flatnonzero(data.modalities == query):
        keep = data.modalities != query
        if other_cameras:
            keep &= ~((data.pids == data.pids[q]) & (data.camids == data.camids[q]))
        gallery = np.flatnonzero(keep)
        order = gallery[np.argsort(-(rows[gallery] @ rows[q]), kind="stable")]
        hits = data.pids[order] == data.pids[q]
        first.append(hits[0])
        ranks = np.flatnonzero(hits) + 1
        precision.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    return 100 * np.mean(first), 100 * np.mean(precision)


@pytest.mark.parametrize("other_cameras", [False, True])
@pytest.mark.parametrize(("direction", "query"), [("i2v", 1), ("v2i", 0)])
def test_protocols_by_their_names(direction, query, other_cameras):
    data = random_features()
    name = f"people-{direction}" + "-other-cameras" * other_cameras
    (record,) = score(data, name)
    expected = by_loops(data, query, other_cameras)
    assert (record["Rank-1"]["mean"], record["mAP"]["mean"]) == pytest.approx(expected, abs=1e-4)
    assert record["draw"] is None and record["trials"] == 1


def test_one_image_an_identity_and_camera():
    (record,) = score(random_features(), "people-i2v-single")
    assert (record["draw"], record["trials"], record["gallery"]) == ("seeded", 10, 24)
    assert find("people-v2i-single-other-cameras").excluded == "same-identity-and-camera"


def test_the_name_goes_with_the_features(tmp_path):
    data = random_features()
    data.save(tmp_path / "features.npz")
    again = FeatureSet.load(tmp_path / "features.npz")
    assert again.layout == again.ordered().layout == "people"
    assert [one["protocol"] for one in score(again)] == ["people-i2v", "people-v2i"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("others-i2v", "others-i2v is a protocol of others, the paths are those of people"),
        ("sysu-all-single", "is a protocol of sysu, the paths are those of people"),
        ("sysu-i2v", "unknown protocol 'sysu-i2v'"),
        ("people-i2t", "unknown protocol 'people-i2t'.*<its name>-i2v"),
    ],
)
def test_no_table_has_anothers_protocols(name, said):
    with pytest.raises(UserError, match=said):
        score(random_features(), name)


@pytest.mark.parametrize("dataset", ["sysu", "regdb"])
def test_no_features_take_a_published_name(dataset):
    with pytest.raises(UserError, match=f"dataset '{dataset}' is a published one"):
        random_features(dataset=dataset)


@pytest.mark.slow
def test_a_table_through_every_command(table, rows, tmp_path):
    said = icre(tmp_path, "train", "--config-file", CONFIG, *SMALL,
                "DATASETS.TABLE", "people.csv", "DATASETS.VALIDATION", "True",
                "TEST.PROTOCOLS", "('people-i2v','people-v2i-single-other-cameras')",
                "OUTPUT_DIR", "run")  # fmt: skip
    records = json.loads((tmp_path / "run/metrics.json").read_text())
    assert [one["protocol"] for one in records] == 3 * [
        "people-i2v", "people-v2i-single-other-cameras",
    ]  # fmt: skip
    assert "people-i2v" in said
    icre(tmp_path, "check", "table", "people.csv")
    scored = icre(tmp_path, "score", "run", "--json", "scores.json")
    assert "people-v2i" in scored
    icre(tmp_path, "extract", "--config-file", "run/config.yaml", "--weights",
         "run/model_best.pth", "--out", "f.npz")  # fmt: skip
    assert FeatureSet.load(tmp_path / "f.npz").layout == "people"
    icre(tmp_path, "report", "run", "--out", "report.html", "--without", "embedding")
    icre(tmp_path, "visualize", "distances", "run", "--out", "distances.png")
    icre(tmp_path, "search", "index", "--weights", "run/model_best.pth", "--out", "gallery",
         "people.csv")  # fmt: skip
    query = rows[0]["path"]
    found = icre(tmp_path, "search", "query", "gallery", query)
    assert "p0" in found and "door" in found
