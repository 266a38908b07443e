"""Milvus: addresses, what stops a command at once, and faults of the connection at every step."""

import dataclasses
import itertools
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from icre.commands import search
from icre.gallery.backend import StoreUnavailable
from icre.gallery.calibration import calibrate
from icre.gallery.filters import Filter
from icre.gallery.milvus.address import parse_address
from icre.gallery.milvus.connection import Client
from icre.gallery.milvus.opened import EXACT_ROWS
from icre.gallery.milvus.records import Pending
from icre.gallery.milvus.store import MilvusStore
from icre.gallery.store import ModelInfo
from icre.utils.errors import UserError
from small_stores import MODEL, fill, lite, people, vectors

grpc = pytest.importorskip("grpc")
pytest.importorskip("milvus_lite")


@pytest.mark.parametrize(
    ("uri", "options", "words"),
    [
        ("people", {}, "write https://HOST:PORT"),
        ("ftp://host:1", {}, "write https://HOST:PORT"),
        ("http://", {}, "write https://HOST:PORT"),
        ("http://host:port", {}, "write https://HOST:PORT"),
        ("https://root:secret@host:19530", {}, "leave user and password out"),
        ("/nowhere/at/all/store.db", {}, "there is no folder /nowhere/at/all"),
        ("store.db", {"token_file": "x"}, "a file takes neither"),
        ("http://host:19530", {"ca": "x.pem"}, "certificates need an address with https"),
        ("https://host:19530", {"ca": "x.pem"}, "--store-ca x.pem: there is no such file"),
        ("https://host:19530", {"token_file": "/nowhere/token"}, "/nowhere/token"),
    ],
)
def test_a_wrong_address_is_one_line(uri, options, words):
    with pytest.raises(UserError, match=words) as error:
        parse_address(uri, **options)
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_a_token_is_read_from_a_file_or_the_environment_and_is_not_shown(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text("root:Milvus1\n")
    file.chmod(0o600)
    address = parse_address("https://host:19530/people", file)
    assert address.token == "root:Milvus1" and "Milvus1" not in repr(address)
    monkeypatch.setenv("ICRE_STORE_TOKEN", " key ")
    assert parse_address("https://host:19530").token == "key"
    file.write_text("two words")
    with pytest.raises(UserError, match="the token") as error:
        parse_address("https://host", file)
    assert "words" not in str(error.value)


def test_a_token_without_encryption_is_warned_of(monkeypatch, caplog):
    monkeypatch.setenv("ICRE_STORE_TOKEN", "key")
    parse_address("http://127.0.0.1:19530")
    parse_address("https://host:19530")
    assert not caplog.records
    parse_address("http://host:19530")
    assert "unencrypted" in caplog.text


@pytest.mark.parametrize("missing", ["pymilvus", "milvus_lite"])
def test_a_missing_package_is_one_line(missing, tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    with pytest.raises(UserError, match="pip install"):
        Client(parse_address(str(tmp_path / "store.db")))


@pytest.mark.parametrize("name", ["1people", "a-b", "", "a" * 201, "ä"])
def test_a_name_that_milvus_has_not(name, tmp_path):
    with pytest.raises(UserError, match="cannot be the name"):
        MilvusStore(Client(parse_address(str(tmp_path / "store.db"))), name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("query", "people", "/nowhere.jpg"), "does not answer"),
        (("index", "/nowhere", "--weights", "/none", "--out", "people"), "does not answer"),
        (("add", "people", "/nowhere"), "does not answer"),
        (("calibrate", "people"), "does not answer"),
        (("remove", "people", "--camera", "1"), "does not answer"),
        (("info", "people"), "does not answer"),
        (("verify", "people"), "does not answer"),
        (("serve", "people", "--port", "0", "--no-audit"), "does not answer"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_store_that_is_not_there_is_one_line_before_anything_is_read(
    words, message, capsys, monkeypatch
):
    monkeypatch.setattr("icre.gallery.milvus.connection.Client.__init__", impatient)
    assert search.main([*words, "--store", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "Traceback" not in error


CLIENT_INIT = Client.__init__


def impatient(client, address, **options):
    CLIENT_INIT(client, address, timeout=1, attempts=1)


@contextmanager
def server(behaviour):
    """A gRPC server that answers every request by `behaviour(context)`."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda _, context: behaviour(context))

    one = grpc.server(ThreadPoolExecutor(2), handlers=[Handler()])
    port = one.add_insecure_port("127.0.0.1:0")
    one.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        one.stop(None)


def abort(code):
    return lambda context: context.abort(code, "auth check failure" if "AUTH" in code.name else "x")


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        (abort(grpc.StatusCode.UNAUTHENTICATED), UserError, "refuses the token"),
        (abort(grpc.StatusCode.PERMISSION_DENIED), UserError, "refuses the token"),
        (abort(grpc.StatusCode.UNAVAILABLE), StoreUnavailable, "does not answer"),
        (lambda context: time.sleep(2), StoreUnavailable, "does not answer"),
    ],
    ids=["token", "rights", "refuses", "silent"],
)
@pytest.mark.slow
def test_a_server_that_does_not_work_is_one_line(behaviour, kind, words):
    with server(behaviour) as uri:
        client = Client(parse_address(uri), timeout=1, attempts=2, wait=0.01)
        with pytest.raises(UserError, match=words) as error:
            MilvusStore(client, "people").open()
    assert type(error.value) is kind and "\n" not in str(error.value)


class Lost(grpc.RpcError):
    """A connection that was lost."""

    def __init__(self, code=grpc.StatusCode.UNAVAILABLE):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "connection reset"


class Flaky:
    """MilvusClient whose n-th calls raise, before they are done or after."""

    def __init__(self, client, numbers, after):
        self._client, self._numbers, self._after, self.calls = client, numbers, after, 0

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*args, **options):
            self.calls += 1
            if self.calls not in self._numbers:
                return method(*args, **options)
            if self._after:
                method(*args, **options)
            raise Lost

        return call


def flaky(store, numbers, after=False, attempts=1):
    """The same place by a connection that fails."""
    client = Client(store.client.address, attempts=attempts, wait=0.001)
    client._client = Flaky(store.client._connected(), numbers, after)
    return MilvusStore(client, store.title)


STRANGERS = dataclasses.replace(people(20, 100), identities=[f"s {n // 4}" for n in range(20)])


def calibrated(store):
    gallery = store.open()
    found = calibrate(gallery.images, gallery.nearest, STRANGERS, vectors(20, 3), "x", True)
    store.save_calibrations(gallery, found)


STEPS = {
    "index": lambda store: fill(store, people(8), vectors(8)),
    "add": lambda store: store.add(people(6, 8), [vectors(6, 1)]),
    "remove": lambda store: store.remove(Filter(identity=("person 1",)), "asked"),
    "calibrate": calibrated,
}


def content(store):
    gallery = store.open()
    keys = sorted(gallery.keys(Filter(path=("*",))))
    found = zip(keys, gallery.images.take(keys).keys(), gallery.features[keys].tolist())
    reasons = [(entry["reason"], len(entry["rows"])) for entry in store.removals(gallery.version)]
    return list(found), gallery.version, gallery.change, gallery.calibrations, reasons


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["request lost", "answer lost"])
@pytest.mark.parametrize(
    "step",
    ["remove", *(pytest.param(one, marks=pytest.mark.long) for one in STEPS if one != "remove")],
)
def test_a_connection_lost_at_any_request_loses_nothing(step, after, tmp_path):
    """One line, and the same command again gives what an unbroken one does."""
    with lite(tmp_path, "whole") as whole:
        earlier = [] if step == "index" else ["index"]
        for one in [*earlier, step]:
            STEPS[one](whole)
        wanted, broken = content(whole), 0
        # the first, the third, the sixth ...: all of them take minutes
        for number in itertools.accumulate(itertools.count(1)):
            store = MilvusStore(whole.client, f"broken{number}")
            for one in earlier:
                STEPS[one](store)
            visible = content(store) if earlier else None
            try:
                STEPS[step](flaky(store, {number}, after))
            except StoreUnavailable as error:
                assert "\n" not in str(error) and "does not answer" in str(error)
            else:
                assert content(store) == wanted
                break
            broken += 1
            if earlier and step == "add" and store.open().version == 1:
                assert content(store)[0] == visible[0]  # nothing of it is found yet
            try:
                STEPS[step](store)
            except UserError as error:  # only its answer was lost
                assert "already" in str(error) or "exists" in str(error) or "no image" in str(error)
            assert content(store) == wanted, number
            assert not store.leftovers()
        assert broken >= 3


def test_attempts_are_repeated_and_no_row_is_there_twice(tmp_path, caplog):
    with lite(tmp_path) as store:
        fill(store, people(8), vectors(8))
        second = flaky(store, {n for n in range(1, 100) if n % 3}, after=True, attempts=3)
        second.add(people(6, 8), [vectors(6, 1)])
        assert len(store.open().images) == 14 and "another attempt" in caplog.text


def test_a_second_writer_is_told_of_the_first(tmp_path):
    with lite(tmp_path) as store:
        fill(store, people(8), vectors(8))
        state = store.state()
        theirs = Pending(
            version=2, digest="x", removed=None, token="t", host="elsewhere", process=7,
            beat=time.time(),
        )  # fmt: skip
        store.records.write_state(state.model_copy(update={"pending": theirs}))
        for change in (STEPS["add"], STEPS["remove"]):
            with pytest.raises(UserError, match="process 7 on elsewhere is changing gallery"):
                change(store)
        assert store.removals(99) == []  # the removal that was refused is not in the log
        assert "runs in an addition" in store.leftovers()
        old = theirs.model_copy(update={"beat": time.time() - 3600})
        store.records.write_state(state.model_copy(update={"pending": old}))
        STEPS["add"](store)
        assert len(store.open().images) == 14 and not store.leftovers()


def test_a_removal_that_another_change_overtakes_is_not_pending(tmp_path, monkeypatch):
    with lite(tmp_path) as store:
        fill(store, people(8), vectors(8))
        original = store.open

        def opened():
            gallery = original()
            monkeypatch.setattr(store, "open", original)
            STEPS["add"](store)  # between the look at the gallery and the removal
            return gallery

        monkeypatch.setattr(store, "open", opened)
        with pytest.raises(UserError, match="was changed meanwhile: repeat the command"):
            STEPS["remove"](store)
        assert not store.leftovers() and store.removals(99) == []
        store.add(people(2, 40), [vectors(2, 5)])
        assert len(store.open().images) == 16 and store.removals(99) == []
        STEPS["remove"](store)
        assert [entry["reason"] for entry in store.removals(99)] == ["--identity person 1; asked"]


def test_a_killed_addition_is_dropped_by_another_change(tmp_path):
    with lite(tmp_path) as store:
        fill(store, people(8), vectors(8))
        addition = store.addition(people(6, 8))
        addition.write(people(3, 8), vectors(3))
        assert len(store.open().images) == 8
        assert store.written(people(6, 8)).tolist() == [True] * 3 + [False] * 3
        assert not store.written(people(6, 8), "replaced files").any()
        store.add(people(2, 20), [vectors(2, 5)])
        assert sorted(store.open().images.take(store.open().keys(Filter(path=("*",)))).paths) == (
            sorted(people(8).paths + people(2, 20).paths)
        )


def test_an_unfinished_gallery_is_no_gallery(tmp_path):
    with lite(tmp_path) as store:
        store.create(MODEL, 16, "hnsw")
        with pytest.raises(UserError, match="is unfinished: repeat the command"):
            store.open()
        other = ModelInfo("b.pth", "b" * 64, "MODEL: {}\n")
        store.create(other, 8, "flat")  # begun anew with another model
        addition = store.addition(people(4))
        addition.write(people(4), np.eye(4, 8, dtype=np.float32))
        addition.finish()
        assert store.open().manifest["model"]["sha256"] == "b" * 64
        with pytest.raises(UserError, match="exists: add to it"):
            store.create(other, 8, "flat")


def test_collections_that_are_no_galleries_are_left_alone(tmp_path):
    from icre.gallery.milvus.rows import create_rows

    with lite(tmp_path) as store:
        create_rows(store.client, "gallery", 16, "flat")
        row = {"key": "k", "path": "p", "modality": 0, "camera": "", "identity": "", "time": 0,
               "box": [0] * 4, "attributes": {}, "version": 1,
               "feature": vectors(1)[0]}  # fmt: skip
        store.client("upsert", "gallery", [row])
        for use in (store.open, lambda: fill(store, people(8), vectors(8))):
            with pytest.raises(UserError, match="no gallery of this program"):
                use()


def test_a_collection_of_another_dimension(tmp_path):
    from icre.gallery.milvus.rows import create_rows

    with lite(tmp_path) as store:
        fill(store, people(8), vectors(8))
        store.client("drop_collection", "gallery")
        create_rows(store.client, "gallery", 8, "flat")
        with pytest.raises(UserError, match=r"\[8\] dimensions, its state says 16"):
            store.open()


def test_what_milvus_cannot_hold_is_told_before_anything_is_written(tmp_path):
    with lite(tmp_path) as store:
        fill(store, people(8), vectors(8))
        for change, words in (
            ({"paths": ["/a/\udcff.jpg"]}, "no UTF-8 text"),
            ({"cameras": ["c" * 2000]}, "its camera has 2000 bytes"),
            ({"attributes": {"note": ["a\0b"]}}, "its note has a null byte"),
        ):
            with pytest.raises(UserError, match=words):
                store.add(dataclasses.replace(people(1, 8), **change), [vectors(1)])
        assert not store.leftovers()


@pytest.mark.slow
def test_a_filter_that_leaves_many_rows_is_searched_by_milvus(tmp_path, monkeypatch):
    count = 3000
    monkeypatch.setattr("icre.gallery.milvus.opened.EXACT_ROWS", 100)
    assert EXACT_ROWS > 1000
    images, features = people(count), vectors(count)
    with lite(tmp_path) as store:
        fill(store, images, features)
        gallery, queries = store.open(), vectors(20, 9)
        for filter, passing in (
            (None, np.ones(count, bool)),
            (Filter(camera=("1",)), np.arange(count) % 4 == 0),
        ):
            rows, _ = gallery.nearest(queries, 10, filter)
            truth = np.argsort(-np.where(passing, queries @ features.T, -2), 1)[:, :10]
            hits = [
                len(set(gallery.images.take(found).keys()) & set(images.take(best).keys()))
                for found, best in zip(rows, truth)
            ]
            assert np.mean(hits) >= 9.5


@pytest.mark.slow
def test_nothing_of_milvus_is_imported_unless_a_store_is_opened():
    code = """
import sys
import icre.commands.search, icre.inference.stores, icre.gallery.milvus.store, icre.serve.app
import icre.serve.start
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"pymilvus", "milvus_lite", "grpc"}, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
