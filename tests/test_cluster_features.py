"""Features by the workers of a Ray cluster of this machine are those of the local commands."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from icre.cluster import connect
from icre.commands import extract, search
from icre.evaluation.features import FeatureSet
from icre.gallery.backend import StoreUnavailable
from icre.gallery.store import open_gallery
from icre.inference.ray_features import ClusterFeatures
from small_cluster import FILE, LIMIT, TOOLS, environment, parent_of, rows_of, tiny_model, wait_for
from small_stores import lite
from test_search import camera_folders, index_arguments

CAMERAS = (1, 2, 3, 4, 5, 6)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A folder with config and checkpoint of a model that workers know too."""
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A cluster for all commands of this module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with connect.connected("auto", tmp_path_factory.mktemp("shared")) as cluster:
            yield cluster


@pytest.fixture
def cluster(started, monkeypatch):
    """Commands find the cluster connected."""

    @contextmanager
    def connected(address, folder, device="auto"):
        yield started

    monkeypatch.setattr(connect, "connected", connected)


def assert_same_gallery(one: Path, other: Path) -> None:
    (rows, features), (other_rows, others) = rows_of(one), rows_of(other)
    assert rows == other_rows
    # an image's feature depends in its last bits on the rest of its batch
    np.testing.assert_allclose(features, others, rtol=0, atol=2e-6)


def workers_of(process: subprocess.Popen) -> list[int]:
    """Processes that compute shards for a command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, pid = (folder / "cmdline").read_text(), int(folder.name)
            if "ShardWorker" in name and process.pid in ancestors(pid):
                found.append(pid)
        except (OSError, IndexError):  # it has ended
            continue
    return found


def ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        pid = parent_of(pid)
        found.append(pid)
    return found


@pytest.mark.slow
def test_a_killed_index_goes_on_and_is_the_local_one(model, demo_root, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    sources = camera_folders(demo_root, CAMERAS)
    flags = ["--cluster", "auto", "--workers", "2", "--shard", "8"]
    command = [sys.executable, TOOLS / "search.py"]
    command += [*index_arguments(model / FILE, there, *sources), *flags]

    def start():
        return subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def shards():
        return sorted((tmp_path / "there.partial/shards").glob("[!.]*.parquet"))

    process = start()
    wait_for(lambda: len(shards()) >= 4, process)
    process.kill()  # and with it the cluster that it has started
    process.communicate()
    finished = {path: path.stat().st_mtime_ns for path in shards()}
    damaged = next(iter(finished))
    damaged.write_bytes(damaged.read_bytes()[:100])
    process = start()
    killed = wait_for(lambda: workers_of(process), process)[0]
    wait_for(lambda: len(shards()) > len(finished) + 1, process)
    kept = {path for path, when in finished.items() if path.stat().st_mtime_ns == when}
    os.kill(killed, signal.SIGKILL)
    printed, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    there_before, total = map(int, re.search(r"(\d+) of (\d+) shards are there", printed).groups())
    assert 3 <= there_before < total and there_before >= len(finished) - 1
    assert kept >= set(finished) - {damaged} and "Traceback" not in errors
    assert search.main(index_arguments(model / FILE, here, *sources)) == 0
    assert_same_gallery(here, there)
    assert open_gallery(there).manifest["model"] == open_gallery(here).manifest["model"]


def broken_copy(root: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A folder of a camera with one image that is cut off, and that image."""
    folder = shutil.copytree(root / "SYSU-MM01/cam1", tmp_path / "cam1")
    broken = sorted(folder.rglob("*.jpg"))[3]
    broken.write_bytes(broken.read_bytes()[:200])
    return folder, broken


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_broken_image_is_named_and_left_out_only_where_that_is_asked_for(
    cluster, model, demo_root, tmp_path, capsys, scheme
):
    """Images on this machine, and in a store."""
    folder, broken = broken_copy(demo_root, tmp_path)
    flags = ["--cluster", "auto", "--workers", "2", "--shard", "6"]
    words = [*index_arguments(model / FILE, tmp_path / "g", f"{scheme}{folder}"), *flags]
    assert search.main(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"error: cannot read image {scheme}{broken}" in said and "--skip-corrupt" in said
    assert not (tmp_path / "g").exists()
    assert search.main([*words, "--skip-corrupt"]) == 0
    printed = capsys.readouterr().out
    assert f"skipped {scheme}{broken}: " in printed and printed.count("skipped") == 1
    local = index_arguments(model / FILE, tmp_path / "local", folder)
    assert search.main([*local, "--skip-corrupt"]) == 0
    ours, features = rows_of(tmp_path / "g")
    theirs, others = rows_of(tmp_path / "local")
    assert ours == [row | {"path": f"{scheme}{row['path']}"} for row in theirs]
    np.testing.assert_allclose(features, others, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_images_of_a_table_in_a_store_are_added(cluster, model, demo_root, tmp_path, capsys):
    first, second = camera_folders(demo_root, (1, 2))
    for name in ("here", "there"):
        assert search.main(index_arguments(model / FILE, tmp_path / name, first)) == 0
    paths = sorted(second.rglob("*.jpg"))
    table = tmp_path / "new.csv"
    lines = [f"file://{path},visible,entrance" for path in paths]
    table.write_text("\n".join(["path,modality,camera", *lines, ""]))
    words = ["add", str(tmp_path / "there"), f"file://{table}", "--device", "cpu"]
    assert search.main(words) == 2
    assert "--cluster" in capsys.readouterr().err
    assert search.main([*words, "--cluster", "auto", "--workers", "2", "--shard", "5"]) == 0
    local = [f"{path},visible,entrance" for path in paths]
    table.write_text("\n".join(["path,modality,camera", *local, ""]))
    assert search.main(["add", str(tmp_path / "here"), str(table), "--device", "cpu"]) == 0
    (ours, features), (theirs, others) = (rows_of(tmp_path / name) for name in ("there", "here"))
    assert [{**row, "path": row["path"].removeprefix("file://")} for row in ours] == theirs
    assert ours[-1]["path"] == f"file://{paths[-1]}" and ours[-1]["camera"] == "entrance"
    np.testing.assert_allclose(features, others, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_features_go_on_into_a_store(cluster, model, demo_root, tmp_path, capsys, monkeypatch):
    """The store's rows are those of a folder; one that stops answering ends nothing but a write."""
    pytest.importorskip("milvus_lite")
    from icre.gallery.milvus.writing import Addition

    first, second = camera_folders(demo_root, (1, 2))
    monkeypatch.chdir(tmp_path)
    store = ["--store", str(tmp_path / "store.db")]
    on_cluster = [*store, "--cluster", "auto", "--workers", "2", "--shard", "5"]
    assert search.main(index_arguments(model / FILE, Path("people"), first)) == 0
    (tmp_path / "people").rename(tmp_path / "folder")
    write, written = Addition.write, []

    def lost(addition, images, features):
        if len(written) == 1:
            raise StoreUnavailable("the store does not answer")
        written.append(len(images))
        write(addition, images, features)

    index = [*index_arguments(model / FILE, Path("people"), first), *on_cluster]
    with monkeypatch.context() as patch:
        patch.setattr(Addition, "write", lost)
        assert search.main(index) == 2
    shards = sorted((tmp_path / "people.partial").rglob("*.parquet"))
    assert len(shards) > 2 and "5 of" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(ClusterFeatures, "_fill", lambda *_: None)  # nothing is computed again
        assert search.main(index) == 0
    assert "went on: 5 of" in capsys.readouterr().out
    add = ["add", "people", str(second), "--device", "cpu", *on_cluster]
    assert search.main(add) == 0
    assert not list(tmp_path.glob("*.partial"))
    assert search.main(["add", "folder", str(second), "--device", "cpu"]) == 0
    with lite(tmp_path, "people") as stored:
        gallery = stored.open()
        query = np.ones((1, gallery.manifest["dimensions"]), dtype=np.float32)
        rows = gallery.nearest(query, len(gallery.images))[0][0]
        ours = dict(zip(gallery.images.take(rows).paths, gallery.features[rows]))
    known, features = rows_of(tmp_path / "folder")
    assert sorted(ours) == sorted(row["path"] for row in known)
    for row, feature in zip(known, features):
        np.testing.assert_allclose(ours[row["path"]], feature, rtol=0, atol=2e-6)


@pytest.mark.slow
def test_the_features_of_a_test_set_are_those_of_the_local_command(
    cluster, model, demo_root, tmp_path, capsys
):
    files = [tmp_path / "here.npz", tmp_path / "there.npz"]
    words = ["--config-file", str(model / "config.yaml")]
    words += ["--weights", str(model / FILE)]
    options = ["DATASETS.ROOT", str(demo_root), "TEST.IMS_PER_BATCH", "4", "MODEL.DEVICE", "cpu"]
    flags = ["--cluster", "auto", "--workers", "2", "--shard", "8"]
    assert extract.main([*words, "--out", str(files[0]), *options]) == 0
    assert extract.main([*words, "--out", str(files[1]), *flags, *options]) == 0
    here, there = map(FeatureSet.load, files)
    for name in ("pids", "camids", "modalities", "paths", "features"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
    assert here.dataset == there.dataset and len(here)
    assert sorted(tmp_path.glob("*.npz*")) == sorted(files)  # no shards are left


def test_more_workers_than_there_are_is_one_line(tmp_path):
    from icre.utils.errors import UserError

    machines = (connect.Machine("a", "one", 4, 1), connect.Machine("b", "two", 8, 2))
    for on_gpu, message in ((True, "3 GPUs"), (False, "12 CPUs")):
        with pytest.raises(UserError, match=f"--workers 13: the cluster has {message}"):
            ClusterFeatures(
                tmp_path, None, None, 8, cluster=connect.Cluster(machines, on_gpu), workers=13
            )
