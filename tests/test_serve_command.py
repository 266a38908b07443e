"""`search serve` with a trained model, as a process, and under load."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import test_search
from icre.benchmark import serve as benchmark
from icre.commands.benchmark import main
from icre.gallery.folder import FolderStore
from icre.serve.limits import Limits
from icre.serve.start import Settings, build
from icre.serve.tokens import Tokens
from small_service import READ, WRITE
from test_search import pictures, query

pytestmark = pytest.mark.slow

gallery = test_search.gallery  # a fixture


def test_the_answer_is_that_of_the_query_command(gallery, demo_root, tmp_path):
    paths = pictures(demo_root, (3,))[:3]
    settings = Settings(FolderStore(gallery), device="cpu", audit=None, limits=Limits(batch=2))
    with TestClient(build(settings, Tokens()).app(), base_url="http://localhost") as client:
        files = [("image", Path(path).read_bytes()) for path in paths]
        reply = client.post("/v1/query", files=files, data={"modality": "infrared"})
        row = reply.json()["answers"][0]["matches"][0]["row"]
        assert client.get(f"/v1/images/1/{row}").headers["content-type"] == "image/jpeg"
    expected = query(gallery, tmp_path, *paths)
    for answer, wanted in zip(reply.json()["answers"], expected, strict=True):
        assert set(answer) == set(wanted)
        for ours, theirs in zip(answer["matches"], wanted["matches"], strict=True):
            for score in ("similarity", "distance"):
                assert ours.pop(score) == pytest.approx(theirs.pop(score), abs=1e-5)
            # a path in the layout of SYSU-MM01 says who the query is, an upload does not
            assert ours.pop("right") is None and theirs.pop("right") is not None
            assert ours == theirs


def test_the_process_opens_its_port_when_it_can_answer_and_ends_on_sigterm(tmp_path):
    folder = benchmark._make_gallery(tmp_path, 50, "", 0, "flat")
    words = [sys.executable, "-m", "icre", "search", "serve", str(folder), "--port", "0"]
    environment = os.environ | {"ICRE_TOKENS": f"reader read {READ};writer write {WRITE}"}
    with subprocess.Popen(
        [*words, "--device", "cpu", "--batch", "4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("gallery: 50 images, http://127.0.0.1:")
        address = line.split()[-1]

        def ask(token: str) -> int:
            body, headers = benchmark._form(benchmark._picture(0))
            headers["Authorization"] = f"Bearer {token}"
            request = urllib.request.Request(f"{address}v1/query", body, headers)
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    return reply.status
            except urllib.error.HTTPError as error:
                return error.code

        assert [ask(token) for token in (READ, "wrong token", WRITE)] == [200, 401, 200]
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM) and rest == ""
    lines = [json.loads(line) for line in errors.splitlines() if line.startswith("{")]
    assert [line["who"] for line in lines] == ["reader", None, "writer"]
    assert "Traceback" not in errors
    for secret in (READ, WRITE, "wrong token", "a.jpg"):
        assert secret not in errors


def test_the_benchmark_measures_the_service(tmp_path, capsys):
    out = tmp_path / "serve.json"
    words = ["serve", "--size", "500", "--clients", "1", "3", "--requests", "9", "--batch", "4"]
    assert main([*words, "--json", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["step"], row["clients"]) for row in rows] == [
        ("search alone", 1),
        ("batches up to 4", 1),
        ("batches up to 4", 3),
        ("one by one", 1),
        ("one by one", 3),
    ]
    for row in rows[1:]:
        assert row["requests"] == 9 and row["own_mib"] > row["rise_mib"]
        assert 0 < row["p50_milliseconds"] <= row["p99_milliseconds"]
        assert row["model_milliseconds"] > 0 and row["images_a_batch"] >= 1
    assert rows[3]["images_a_batch"] == rows[4]["images_a_batch"] == 1
    assert "| one by one" in capsys.readouterr().out
    assert main(["serve", "--requests", "0"]) == 2
