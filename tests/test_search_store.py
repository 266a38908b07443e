"""tools/search.py with --store, by a trained model and milvus-lite; and `serve` on a store."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from icre.commands import search
from icre.gallery import staging
from icre.gallery.filters import Filter
from icre.gallery.folder import FolderStore
from icre.gallery.milvus.writing import Addition
from icre.gallery.store import ModelInfo
from small_service import COUNT, MODEL, ask, make_gallery, picture, serving
from small_stores import fill, lite
from test_milvus import Lost
from test_search import camera_folders, computed_images, index_arguments, pictures

pytest.importorskip("milvus_lite")


def run(*words: object, status: int = 0) -> None:
    assert search.main([str(word) for word in words]) == status


@contextmanager
def stopped_after(count: int):
    """Ctrl-C after so many writes into the store."""
    write, calls = Addition.write, []

    def stopping(addition, images, features):
        if len(calls) == count:
            raise KeyboardInterrupt
        calls.append(len(images))
        write(addition, images, features)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Addition, "write", stopping)
        yield


def matches(file: Path) -> list:
    """Of each query, what its matches are, without the places of rows."""
    answers = json.loads(file.read_text())
    for match in (match for one in answers for match in one["matches"]):
        match.pop("row")
        for score in ("similarity", "distance"):
            match[score] = pytest.approx(match[score], abs=1e-5)
    return [[one["here"], one["matches"]] for one in answers]


@pytest.mark.slow
def test_a_week_in_a_store_by_the_command(finished_run, demo_root, tmp_path, capsys, monkeypatch):
    """Index and add with interruptions, query, remove: answers are those of a folder."""
    folder, store = tmp_path / "folder", ("--store", tmp_path / "store.db")
    (first,), (second,) = camera_folders(demo_root, (1,)), camera_folders(demo_root, (2,))
    asked = pictures(demo_root, (3,))[:3]
    run(*index_arguments(finished_run, folder, first))
    words = ("index", first, "--weights", finished_run, "--out", "people", "--shard", 4, *store)
    words = (*words, "--device", "cpu")
    with stopped_after(1):
        run(*words, status=130)
    run("query", "people", *asked, *store, "--device", "cpu", status=2)
    assert "is unfinished: repeat the command" in capsys.readouterr().err
    with computed_images() as computed:
        run(*words)
    assert len(set(computed)) < len(pictures(demo_root, (1,)))
    assert "went on: " in capsys.readouterr().out
    run(*words, status=2)
    assert "exists: add to it" in capsys.readouterr().err
    run("add", folder, second, "--device", "cpu")
    with stopped_after(1):
        run("add", "people", second, "--shard", 4, *store, "--device", "cpu", status=130)
    run("add", "people", second, "--shard", 4, *store, "--device", "cpu")
    run("add", "people", second, *store, "--device", "cpu", status=2)
    assert "--skip-existing" in capsys.readouterr().err
    for conditions in ((), ("--camera", "2"), ("--path", "*/cam[1]/*"), ("--rerank", "fastreid")):
        answers = []
        for name, place in (("a", (folder,)), ("b", ("people",))):
            out = tmp_path / f"{name}.json"
            more = store if name == "b" else ()
            run("query", *place, *asked, *conditions, "--json", out, *more, "--device", "cpu")
            answers.append(matches(out))
        assert answers[0] == answers[1] and answers[0][0][1]
    person = FolderStore(folder).open().images.row(0)["identity"]
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    left = tmp_path / "people.partial" / staging.SHARDS / "0.parquet"  # by a killed addition
    with staging.held(Path("people")):
        left.parent.mkdir()
        left.touch()
    run("remove", "people", "--identity", person, "--reason", "asked for", *store)
    assert str(tmp_path / "b.json") in capsys.readouterr().out
    assert not left.parent.parent.exists()
    run("info", "people", *store)
    told = capsys.readouterr().out
    assert "cameras    1, 2\n" in told and f"--identity {person}; asked for" in told
    run("verify", "people", *store)
    assert "each with its key and a unit vector" in capsys.readouterr().out
    other = tmp_path / "other.pth"
    other.write_bytes((finished_run / "model_final.pth").read_bytes() + b"\0")
    run("query", "people", asked[0], "--weights", other, *store, status=2)
    assert "other.pth is not the model of gallery" in capsys.readouterr().err


@pytest.fixture
def served(tmp_path):
    """A store with the images of `small_service.make_gallery`."""
    folder = FolderStore(make_gallery(tmp_path / "images")).open()
    with lite(tmp_path) as store:
        fill(store, folder.images.table(), np.array(folder.features))
        yield store


def test_a_store_is_served_by_several_that_keep_no_state(served, tmp_path):
    folder = tmp_path / "images" / "gallery"
    with serving(served) as one, serving(served) as two, serving(folder) as local:
        health = one.get("/health")
        assert health.status_code == 200
        assert health.json()["store"] == "ok" and health.json()["model"] == "ready"
        found = ask(one, 3, 5, top=4).json()
        wanted = ask(local, 3, 5, top=4).json()
        paths = [[m["path"] for m in answer["matches"]] for answer in found["answers"]]
        assert paths == [[m["path"] for m in answer["matches"]] for answer in wanted["answers"]]
        row = found["answers"][0]["matches"][0]["row"]
        reply = two.get(f"/v1/images/{found['version']}/{row}")
        assert reply.headers["content-type"] == "image/jpeg"
        assert two.get("/v1/images/1/no-such-row").status_code == 404
        assert two.get("/v1/info").json()["images"] == COUNT
        assert ask(one, 3, camera="9").status_code == 422
        removed = found["answers"][0]["matches"][0]["identity"]
        served.remove(Filter(identity=(removed,)))
        for client in (one, two):
            names = {m["identity"] for m in ask(client, 3).json()["answers"][0]["matches"]}
            assert names and removed not in names


def test_uploads_are_added_and_removed(served, tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    token = "w" * 32
    headers = {"Authorization": f"Bearer {token}"}
    with serving(served, uploads=uploads, tokens=[f"writer write {token}"]) as client:
        files = [("image", ("a.png", picture(77), "image/png"))]
        data = {"modality": "visible", "identity": "new", "camera": "9"}
        reply = client.post("/v1/add", files=files, data=data, headers=headers)
        assert reply.json() | {"version": 2} == reply.json() and reply.json()["added"] == 1
        assert client.post("/v1/add", files=files, data=data, headers=headers).json()["added"] == 0
        best = ask(client, 77, token=token).json()["answers"][0]["matches"][0]
        assert best["identity"] == "new"
        reply = client.post("/v1/remove", data={"identity": "new"}, headers=headers)
        assert reply.json()["removed"] == reply.json()["files_deleted"] == 1
        assert not list(uploads.iterdir())


def test_a_store_that_is_gone_is_503_and_comes_back(served):
    with serving(served) as client:
        assert ask(client, 3).status_code == 200
        connection = served.client._connected
        served.client._attempts = 1

        def lost():
            raise Lost

        served.client._connected = lost
        health = client.get("/health")
        assert health.status_code == 503
        assert health.json()["store"] == "unavailable" and health.json()["model"] == "ready"
        reply = ask(client, 3)
        assert reply.status_code == 503 and reply.headers["Retry-After"]
        assert "store.db" not in reply.text + health.text
        served.client._connected = connection
        assert client.get("/health").status_code == 200 and ask(client, 3).status_code == 200


def test_a_gallery_of_another_model_is_not_served(served):
    with serving(served) as client:
        for name in ("gallery", "gallery_state"):
            served.client("drop_collection", name)
        assert client.get("/health").status_code == 503
        other = ModelInfo("other.pth", "b" * 64, MODEL.config)
        served.create(other, 16, "flat")
        assert client.get("/health").status_code == 503
        assert ask(client, 3).status_code == 503
