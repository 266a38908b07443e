"""icre.serve: answers, refusals, limits, batches, reloads, the audit and what is never logged."""

import asyncio
import json
import logging
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from starlette.exceptions import HTTPException

from icre.commands import search
from icre.gallery import changes, versions
from icre.gallery.answers import answer, as_json
from icre.gallery.calibration import Calibration
from icre.gallery.filters import Filter
from icre.gallery.folder import FolderStore
from icre.gallery.store import ModelInfo, open_gallery
from icre.gallery.table import ImageTable
from icre.serve import changing
from icre.serve.guard import OPEN
from icre.serve.limits import Limits
from icre.serve.start import Settings, check
from icre.serve.tokens import read_tokens
from icre.utils.errors import UserError
from small_service import (
    COUNT,
    READ,
    TOKENS,
    WRITE,
    ask,
    bearer,
    held,
    make_gallery,
    picture,
    serving,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """A gallery that no test changes."""
    return make_gallery(tmp_path_factory.mktemp("serve") / "images")


@pytest.fixture
def own(tmp_path) -> Path:
    return make_gallery(tmp_path / "images")


def detail(reply, status: int) -> str:
    assert reply.status_code == status, reply.text
    text = reply.json()["detail"]
    assert "\n" not in text and text
    return text


def calibrate(folder: Path) -> None:
    scores = np.linspace(-0.2, 0.4, 200).tolist()
    one = Calibration(scores, [], [], people=50, source="test", held_out=True)
    changes.save_calibrations(open_gallery(folder), {"infrared": one})


def test_answers_are_those_of_the_gallery(shared):
    with serving(shared) as client:
        found = ask(client, 3, 5, top=4, camera=["0", "2"]).json()
    gallery = open_gallery(shared)
    assert found["version"] == gallery.version
    assert [one["query"]["path"] for one in found["answers"]] == ["3.png", "5.png"]
    for one, seed in zip(found["answers"], (3, 5)):
        queries = ImageTable([f"{seed}.png"], np.array([1]), [""], [""])
        features = gallery.features[[seed]]
        expected = answer(gallery, queries, features, 4, filter=Filter(camera=("0", "2")))
        for match, wanted in zip(one["matches"], as_json(expected)[0]["matches"], strict=True):
            assert match["similarity"] == pytest.approx(wanted["similarity"], abs=1e-5)
            for key in set(match) - {"similarity", "distance"}:
                assert match[key] == (wanted[key] if key != "box" else None)
            assert gallery.images.row(match["row"])["path"] == match["path"]
        assert one["matches"][0]["row"] == seed


def test_filters_times_and_attributes(shared):
    with serving(shared) as client:
        fields = {"after": "2026-11-03", "before": "2026-11-06T12:00Z", "where": "weather=rain"}
        matches = ask(client, 1, **fields).json()["answers"][0]["matches"]
        assert sorted(one["row"] for one in matches) == [2, 4]
        matches = ask(client, 1, in_modality="visible", identity="person 1").json()
        assert {one["row"] for one in matches["answers"][0]["matches"]} == {4}


def test_a_calibrated_gallery_says_not_here(own):
    with serving(own) as client:
        assert "far: gallery gallery is not calibrated" in detail(ask(client, 1, far=0.1), 422)
        calibrate(own)
        assert ask(client, 1).json()["answers"][0]["here"] is True
        stranger = ask(client, 999, far=0.05).json()["answers"][0]
        assert stranger["here"] is (stranger["best"] > stranger["threshold"])
        assert client.get("/v1/info").json()["calibrated"] == ["infrared"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"camera": "77"}, "camera 77: no image of gallery gallery has it; there is 0, 1, 2"),
        ({"after": "noon"}, "after: 'noon' is no time"),
        ({"where": "sky=blue"}, "no attribute 'sky'"),
        ({"where": "sky"}, "where sky: write KEY=VALUE"),
        ({"identity": "nobody"}, "identity nobody"),
        ({"in_modality": "sonar"}, "sonar"),
        ({"modality": "sonar"}, "modality: "),
        ({"top": "0"}, "top: "),
        ({"top": "101"}, "top: 101 is above the limit of 100"),
        ({"top": "many"}, "top: "),
        ({"far": "1"}, "far: "),
        ({"rerank": "magic"}, "rerank: "),
        ({"cam": "1"}, "unknown field 'cam'"),
        ({"after": "2026-11-05", "before": "2026-11-04"}, "is not before"),
    ],
)
def test_unknown_values_are_named(shared, fields, word):
    with serving(shared) as client:
        text = detail(ask(client, 1, **fields), 422)
        assert word in text and str(shared) not in text
        assert ask(client, 1).status_code == 200


def test_fields_in_the_address_are_refused(shared):
    with serving(shared) as client:
        files = {"image": picture(1)}
        reply = client.post("/v1/query?camera=1", files=files, data={"modality": "visible"})
        assert "not in the address" in detail(reply, 422)


def test_what_is_no_image_is_named_with_what_is_allowed(shared):
    with serving(shared, pixels=5000, images=2) as client:
        data = {"modality": "visible"}
        for content in (b"no image", b"", picture(1)[:60], b"%!PS-Adobe"):
            files = [("image", picture(1)), ("image", content)]
            text = detail(client.post("/v1/query", files=files, data=data), 422)
            assert "image 2: cannot read the image" in text and "JPEG, PNG" in text
        large = {"image": picture(1, (100, 51))}
        text = detail(client.post("/v1/query", files=large, data=data), 422)
        assert "100 x 51 pixels exceed the limit of 5000" in text
        assert "3 images: allowed are 1 to 2 images" in detail(ask(client, 1, 2, 3), 422)
        assert "image: " in detail(client.post("/v1/query", data=data), 422)
        assert "image.0: " in detail(client.post("/v1/query", data={"image": "x", **data}), 422)


def test_a_large_request_is_refused_by_its_header_and_while_it_comes(shared):
    with serving(shared, bytes=20_000) as client:
        text = detail(client.post("/v1/query", content=b"x" * 20_001), 413)
        assert "at most 20000 bytes" in text
        sent = []

        def endless():
            for _ in range(1000):
                sent.append(1)
                yield b"x" * 1000

        start = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'

        def body():
            yield start
            yield from endless()

        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        assert "too large" in detail(client.post("/v1/query", content=body(), headers=kind), 413)
        assert client.get("/health").json()["status"] == "ok"


def test_tokens_and_rights(shared, tmp_path):
    with serving(shared, tokens=TOKENS, uploads=tmp_path) as client:
        for token in (None, "", "x" * 32, READ[:-1], WRITE + "w"):
            reply = ask(client, 1, token=token)
            assert "Bearer TOKEN" in detail(reply, 401)
            assert reply.headers["www-authenticate"] == "Bearer"
        basic = client.get("/v1/info", headers={"Authorization": f"Basic {READ}"})
        assert basic.status_code == 401
        for path in ("/metrics", "/v1/info", f"/v1/images/1/{COUNT - 1}", "/nothing"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=bearer(READ)).status_code in (200, 404)
        for path in OPEN:
            assert client.get(path).status_code == 200
        for path in ("/v1/add", "/v1/remove"):
            assert "'write'" in detail(client.post(path, headers=bearer(READ)), 403)
            assert client.post(path).status_code == 401
        assert ask(client, 1, token=READ).status_code == 200
        assert ask(client, 1, token=WRITE).status_code == 200
        assert client.get("/v1/info", headers=bearer(WRITE)).json()["may_change"] is True


def test_a_refused_request_is_refused_before_its_body_is_read(shared):
    with serving(shared, tokens=TOKENS) as client:
        sent = []

        def body():
            sent.append(1)
            yield b"x"

        assert client.post("/v1/query", content=body()).status_code == 401
        assert client.post("/v1/add", content=body(), headers=bearer(READ)).status_code == 403


def test_without_tokens_only_this_machine_is_answered(shared, tmp_path):
    with serving(shared, uploads=tmp_path) as client:
        for host in ("evil.example", "127.0.0.1.evil.example", "10.0.0.1:8000", "", "[::1"):
            assert client.get("/v1/info", headers={"Host": host}).status_code == 403
            assert client.get("/health", headers={"Host": host}).status_code == 403
        for host in ("localhost:1", "127.0.0.1", "[::1]:8000"):
            assert client.get("/v1/info", headers={"Host": host}).status_code == 200
        for origin in ("http://evil.example", "null", "http://127.0.0.1:9000", "http://[::1"):
            reply = client.post("/v1/query", headers={"Origin": origin})
            assert "other sites" in detail(reply, 403)
        own = client.get("/v1/info", headers={"Origin": "http://127.0.0.1:8000"})
        assert own.status_code == 200 and own.json()["may_change"] is False
        for path in ("/v1/add", "/v1/remove"):
            assert client.post(path, data={"identity": "person 1"}).status_code == 403


def test_every_answer_has_the_headers(shared):
    with serving(shared, tokens=TOKENS) as client:
        replies = [client.get(path) for path in (*sorted(OPEN), "/v1/info", "/nothing")]
        replies.append(ask(client, 1, token=READ, camera="77"))
        for reply in replies:
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert "http" not in policy and "*" not in policy
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in reply.headers
            assert "server" not in reply.headers


def test_pictures_are_served_by_row_of_this_version(own):
    with serving(own) as client:
        reply = client.get("/v1/images/1/3")
        assert reply.headers["content-type"] == "image/jpeg" and reply.content[:2] == b"\xff\xd8"
        for path, status in (
            (f"1/{COUNT}", 404),
            ("1/-1", 404),
            ("0/3", 410),
            ("2/3", 410),
            ("1/x", 404),
            ("1/..%2F..%2Fetc%2Fpasswd", 404),
        ):
            assert client.get(f"/v1/images/{path}").status_code == status, path
        changes.remove(own, Filter(identity=("person 1",)))
        assert "has changed" in detail(client.get("/v1/images/1/3"), 410)
        assert client.get("/v1/images/2/3").status_code == 200
        Path(open_gallery(own).images.row(0)["path"]).unlink()
        assert "cannot be read" in detail(client.get("/v1/images/2/0"), 404)


def test_requests_that_come_together_are_one_batch(shared):
    with serving(shared, batch=8) as client:
        is_held, release = held(client.service.model)
        with ThreadPoolExecutor(12) as pool:
            first = pool.submit(ask, client, 0)
            is_held()
            others = [pool.submit(ask, client, n, n + 1, top=1) for n in range(1, 6)]
            until(lambda: len(client.service.worker._waiting) == 5)
            release()
            assert first.result().status_code == 200
            for n, reply in enumerate(others, start=1):
                rows = [one["matches"][0]["row"] for one in reply.result().json()["answers"]]
                assert rows == [n, n + 1]
        assert client.service.model.batches == [1, 8, 2]


def test_one_bad_request_of_a_batch_leaves_the_others(shared):
    with serving(shared) as client:
        is_held, release = held(client.service.model)
        with ThreadPoolExecutor(4) as pool:
            pool.submit(ask, client, 0)
            is_held()
            good, bad = pool.submit(ask, client, 4), pool.submit(ask, client, 5, camera="77")
            until(lambda: len(client.service.worker._waiting) == 2)
            release()
            assert good.result().json()["answers"][0]["matches"][0]["row"] == 4
            assert bad.result().status_code == 422


def test_a_defect_is_answered_and_the_service_goes_on(shared, caplog):
    with serving(shared) as client:

        def fail():
            raise RuntimeError("a defect")

        client.service.model.before = fail
        with pytest.raises(RuntimeError, match="a defect"):  # TestClient hands it on, after 500
            ask(client, 1)
        client.service.model.before = lambda: None
        assert ask(client, 1).status_code == 200
        assert "a batch of the service failed" in caplog.text


def test_a_full_queue_and_a_late_answer_are_refused(shared):
    with serving(shared, waiting=2, seconds=0.5) as client:
        is_held, release = held(client.service.model)
        with ThreadPoolExecutor(4) as pool:
            two = [pool.submit(ask, client, 1)]
            is_held()  # so that the second is not in its batch
            two.append(pool.submit(ask, client, 2))
            until(lambda: "icre_active_requests 2.0" in client.service.metrics.text().decode())
            reply = ask(client, 3)
            assert "2 requests are being answered" in detail(reply, 503)
            assert int(reply.headers["retry-after"]) > 0
            assert client.get("/health").status_code == 200
            for one in two:
                assert "time limit" in detail(one.result(), 503)
                assert int(one.result().headers["retry-after"]) > 0
        release()
        assert ask(client, 3).status_code == 200
        assert sum(client.service.model.batches) == 2  # the request that waited was taken back


def test_a_client_that_does_not_take_its_answer_loses_its_place(shared):
    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        await asyncio.sleep(60)

    with serving(shared, seconds=0.2) as client:
        guard = client.service.app()
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/v1/info",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        asyncio.run(asyncio.wait_for(guard(scope, receive, send), 10))
        assert guard._active == 0


def test_a_body_that_does_not_come_is_408(shared):
    sent = []

    async def receive():
        if sent:
            await asyncio.sleep(60)
        sent.append(1)
        return {"type": "http.request", "body": b"--b\r\n", "more_body": True}

    replies = []

    async def send(message):
        replies.append(message)

    with serving(shared, seconds=0.2) as client:
        kind = b"multipart/form-data; boundary=b"
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/query",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", kind)],
        }
        asyncio.run(asyncio.wait_for(client.service.app()(scope, receive, send), 10))
    assert replies[0]["status"] == 408 and b"not sent within 0.2 s" in replies[1]["body"]


def until(condition, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_new_version_is_taken_up_and_requests_in_flight_keep_theirs(own):
    with serving(own) as client:
        is_held, release = held(client.service.model)
        with ThreadPoolExecutor(2) as pool:
            before = pool.submit(ask, client, 3)
            is_held()
            changes.remove(own, Filter(identity=("person 1",)))
            assert client.get("/health").json()["version"] == 2
            release()
            old = before.result().json()
        assert old["version"] == 1 and old["answers"][0]["matches"][0]["row"] == 3
        new = ask(client, 3).json()
        assert new["version"] == 2
        assert "person 1" not in {one["identity"] for one in new["answers"][0]["matches"]}
        assert client.get("/v1/info").json()["images"] == COUNT - 3


def test_another_model_on_the_disk_is_refused_and_health_says_so(own, tmp_path):
    with serving(own) as client:
        other = make_gallery(tmp_path / "other", ModelInfo("other.pth", "b" * 64, "MODEL: {}\n"))
        kept = Path(shutil.move(own, tmp_path / "kept"))
        shutil.move(other, own)
        health = client.get("/health").json()
        assert health["status"] == "stale" and "older version" in health["problem"]
        assert str(tmp_path) not in health["problem"]
        assert "another model" in client.get("/v1/info").json()["problem"]
        assert ask(client, 3).json()["answers"][0]["matches"][0]["row"] == 3
        with pytest.raises(HTTPException, match=r"409: .* not the one that is served"):
            changing.remove(client.service.served, Filter(camera=("1",)), "", None)
        with pytest.raises(HTTPException, match="409: "):
            changing.add(client.service.served, *[None] * 3)
        assert "icre_refused_reloads_total 1.0" in client.get("/metrics").text
        shutil.rmtree(own)
        assert client.get("/health").json()["status"] == "stale"
        shutil.move(kept, own)
        assert client.get("/health").json()["status"] == "ok"


def test_add_and_remove(own, tmp_path):
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    with serving(own, tokens=TOKENS, uploads=uploads) as client:
        writer = bearer(WRITE)
        files = [("image", picture(seed)) for seed in (50, 51, 50)]
        data = {
            "modality": "visible",
            "camera": "9",
            "identity": "new",
            "time": "2026-11-30T01:00+01:00",
            "where": ["track=7", "weather=fog"],
        }
        reply = client.post("/v1/add", files=files, data=data, headers=writer).json()
        assert reply == {"added": 2, "there_already": 1, "version": 2, "images": COUNT + 2}
        found = ask(client, 50, token=READ).json()["answers"][0]["matches"][0]
        assert found["identity"] == "new" and found["camera"] == "9"
        assert found["time"].startswith("2026-11-30T00:00")
        assert found["attributes"] == {"track": "7", "weather": "fog"}
        assert found["similarity"] == pytest.approx(1, abs=1e-5)
        assert Path(found["path"]).parent == uploads and len(list(uploads.iterdir())) == 2
        again = client.post("/v1/add", files=files, data=data, headers=writer).json()
        assert again["added"] == 0 and again["version"] == 2
        for bad in ({"time": "noon"}, {"where": "x"}, {"where": "camera=3"}, {"colour": "red"}):
            reply = client.post("/v1/add", files=files, data={**data, **bad}, headers=writer)
            detail(reply, 422)
        assert "name a condition" in detail(client.post("/v1/remove", headers=writer), 422)
        unknown = client.post("/v1/remove", data={"identity": "nobody"}, headers=writer)
        assert "identity nobody" in detail(unknown, 422)
        gone = client.post("/v1/remove", data={"camera": ["9", "0"]}, headers=writer).json()
        assert gone["removed"] == 6 and gone["files_deleted"] == 2 and gone["version"] == 3
        assert not list(uploads.iterdir()) and len(list(own.parent.glob("*.png"))) == COUNT
        nothing = client.post("/v1/remove", data={"before": "1999-01-01"}, headers=writer).json()
        assert nothing["removed"] == 0


def test_a_gallery_that_another_process_changes_is_a_conflict(own, tmp_path):
    with serving(own, tokens=TOKENS, uploads=tmp_path) as client, versions.changing(own):
        files, data = {"image": picture(60)}, {"modality": "visible"}
        reply = client.post("/v1/add", files=files, data=data, headers=bearer(WRITE))
        assert "is writing into" in detail(reply, 409)
        assert not list(tmp_path.glob("*.png"))  # the file went with it
        reply = client.post("/v1/remove", data={"camera": "1"}, headers=bearer(WRITE))
        assert "is writing into" in detail(reply, 409)


@pytest.mark.parametrize("published", [False, True])
def test_files_of_an_addition_that_fails_stay_with_its_rows(own, tmp_path, monkeypatch, published):
    def fail(store, images, blocks, **options):
        if published:
            changes.add(own, images, blocks, progress=False)
        raise OSError("no space left on device")

    with serving(own, tokens=TOKENS, uploads=tmp_path) as client:
        monkeypatch.setattr(FolderStore, "add", fail)
        files, data = {"image": picture(61)}, {"modality": "visible", "identity": "new"}
        with pytest.raises(OSError, match="no space"):
            client.post("/v1/add", files=files, data=data, headers=bearer(WRITE))
        assert len(list(tmp_path.glob("*.png"))) == published
        found = ask(client, 61, token=READ).json()["answers"][0]["matches"][0]
        assert (found["identity"] == "new") is published


def test_many_patterns_of_paths_are_refused(shared):
    with serving(shared, tokens=TOKENS) as client:
        data = {"modality": "visible", "path": ["*a*b*c*d"] * 101}
        reply = client.post(
            "/v1/query", files={"image": picture(1)}, data=data, headers=bearer(READ)
        )
        assert "101 patterns of paths: allowed are 100" in detail(reply, 422)


def test_adding_needs_a_folder(shared):
    with serving(shared, tokens=TOKENS) as client:
        files, data = {"image": picture(60)}, {"modality": "visible"}
        reply = client.post("/v1/add", files=files, data=data, headers=bearer(WRITE))
        assert "--uploads" in detail(reply, 403)


def test_the_audit_has_a_line_for_each_query_and_no_secret(shared, tmp_path, caplog, capfd):
    path = tmp_path / "audit.jsonl"
    caplog.set_level(logging.DEBUG)
    with serving(shared, tokens=TOKENS, audit=path) as client:
        ask(client, 3, 4, token=READ, camera="1", top=3)
        ask(client, 3, token=READ, camera="77")
        ask(client, 3, token="wrong" * 8)
        client.get("/v1/info", headers=bearer(READ))
        client.get("/v1/images/1/1", headers=bearer(READ))
        metrics = client.get("/metrics", headers=bearer(READ)).text
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["status"] for line in lines] == [200, 422, 401]
    assert [line["who"] for line in lines] == ["reader", "reader", None]
    first = lines[0]
    assert first["action"] == "query" and first["images"] == 2 and first["modality"] == "infrared"
    assert first["filter"] == "--camera 1" and first["version"] == 1 and first["here"] == [None] * 2
    assert first["time"].startswith("20") and first["seconds"] > 0
    assert path.stat().st_mode & 0o077 == 0
    everything = path.read_text() + caplog.text + "".join(capfd.readouterr()) + metrics
    for secret in (READ, WRITE, "wrong" * 8, "3.png", "PNG"):
        assert secret not in everything
    assert 'icre_requests_total{path="/v1/query",status="200"} 1.0' in metrics


def test_nothing_is_answered_without_its_audit_line(shared):
    with serving(shared, audit="/dev/full") as client:
        reply = ask(client, 1)
        assert "audit line" in detail(reply, 503) and "answers" not in reply.text
        assert client.get("/health").status_code == 200


def test_openapi_describes_it_and_nothing_loads_from_elsewhere(shared):
    with serving(shared) as client:
        schema = client.get("/openapi.json").json()
        assert {"/v1/query", "/v1/add", "/v1/remove", "/v1/info", "/health"} <= set(schema["paths"])
        assert {"Answer", "Match"} <= set(schema["components"]["schemas"])
        assert client.get("/docs").status_code == 404
        for path in ("/", "/serve.js", "/serve.css"):
            text = client.get(path).text
            assert "http://" not in text and "https://" not in text and "innerHTML" not in text
        page = client.get("/").text
        assert "<style" not in page and "onclick" not in page and "viewport" in page
        assert page.count("<script") == 1 and 'src="serve.js"' in page


def test_tokens_come_from_a_file_or_the_environment(tmp_path, monkeypatch, caplog):
    file = tmp_path / "tokens"
    file.write_text(f"# who may\n\na read {READ}\nb write {WRITE}\n")
    file.chmod(0o600)
    tokens = read_tokens(file)
    assert tokens.holder(f"Bearer {WRITE}").writes and not tokens.holder(f"bearer {READ}").writes
    assert caplog.text == ""
    file.chmod(0o644)
    read_tokens(file)
    assert "chmod 600" in caplog.text
    assert not read_tokens(None)
    monkeypatch.setenv("ICRE_TOKENS", f"a read {READ};b write {WRITE}")
    assert read_tokens(None).holder(f"Bearer {READ}").name == "a"
    for content, word in (
        ("", "holds no token"),
        (f"a {READ}", "line 1: write a line NAME read TOKEN"),
        (f"a admin {READ}", "line 1"),
        ("a read short", "shorter than 16"),
        (f"a read {READ}\na read {WRITE}", "line 2: a has a token already"),
    ):
        file.write_text(content)
        with pytest.raises(UserError, match=word) as caught:
            read_tokens(file)
        assert READ not in str(caught.value) and WRITE not in str(caught.value)


def test_bad_starts_end_in_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("ICRE_TOKENS", raising=False)
    with pytest.raises(UserError, match=r"--host 0\.0\.0\.0: others can reach it"):
        check(Settings(FolderStore(tmp_path), host="0.0.0.0"))
    with pytest.raises(UserError, match="--uploads"):
        check(Settings(FolderStore(tmp_path), uploads=tmp_path / "none"))
    for host in ("127.0.0.1", "::1", "localhost"):
        assert not check(Settings(FolderStore(tmp_path), host=host))
    monkeypatch.setenv("ICRE_TOKENS", f"a read {READ}")
    assert check(Settings(FolderStore(tmp_path), host="0.0.0.0"))
    with pytest.raises(UserError, match="--max-bytes"):
        Limits(bytes=0)


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    for words, message in (
        (("--port", "0"), "is no gallery"),
        (("--host", "0.0.0.0"), "others can reach it"),
        (("--port", "99999"), "--port 99999"),
        (("--batch", "0"), "--batch: it must be above 0"),
        (("--tokens", tmp_path / "none"), "none"),
    ):
        words = ("serve", tmp_path, "--no-audit", *words)
        assert search.main([str(word) for word in words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
