"""`search serve` as a process, with a trained model."""

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import test_search
from icre.benchmark import serve as benchmark
from icre.commands.benchmark import main
from small_service import READ, WRITE
from test_search import pictures, query

pytestmark = pytest.mark.slow

gallery = test_search.gallery  # a fixture


@contextmanager
def service(gallery: Path, folder: Path, *words: str) -> Iterator[http.client.HTTPConnection]:
    """A running service with tokens; what it wrote is in `folder`/said.txt."""
    command = [sys.executable, "-m", "icre", "search", "serve", str(gallery), "--port", "0"]
    environment = os.environ | {"ICRE_TOKENS": f"reader read {READ};writer write {WRITE}"}
    said = folder / "said.txt"
    with open(said, "w") as errors:
        process = subprocess.Popen(
            [*command, "--device", "cpu", *words],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        try:
            line = process.stdout.readline()
            assert "http://127.0.0.1:" in line, said.read_text()
            port = int(line.strip().rstrip("/").rpartition(":")[2])
            # the port is open as soon as it is named
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            yield connection
            connection.close()
        finally:
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=60)
            said.write_text(said.read_text() + line + rest)
    assert process.returncode in (0, -signal.SIGTERM)


def ask(connection: http.client.HTTPConnection, path: str, token: str = READ) -> dict:
    body, headers = benchmark._form(Path(path).read_bytes())
    headers["Authorization"] = f"Bearer {token}"
    connection.request("POST", "/v1/query", body, headers)
    reply = connection.getresponse()
    return {"status": reply.status} | json.loads(reply.read())


def test_the_answer_is_that_of_the_query_command(gallery, demo_root, tmp_path):
    path = pictures(demo_root, (3,))[0]
    with service(gallery, tmp_path, "--batch", "4") as connection:
        found = [ask(connection, path) for _ in range(2)][1]
        assert ask(connection, path, "wrong token of somebody")["status"] == 401
    expected = query(gallery, tmp_path, path)[0]
    answer = found["answers"][0]
    assert set(answer) == set(expected)
    for ours, theirs in zip(answer["matches"], expected["matches"], strict=True):
        for score in ("similarity", "distance"):
            assert ours.pop(score) == pytest.approx(theirs.pop(score), abs=1e-5)
        assert ours == theirs
    said = (tmp_path / "said.txt").read_text()
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines] == [200, 200, 401]
    assert "Traceback" not in said
    for secret in (READ, WRITE, "wrong token", path):
        assert secret not in said


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
        assert row["requests"] == 9 and row["own_mib"] > 0
        assert 0 < row["p50_milliseconds"] <= row["p99_milliseconds"]
        assert row["model_milliseconds"] > 0 and row["images_a_batch"] >= 1
    assert rows[3]["images_a_batch"] == rows[4]["images_a_batch"] == 1
    assert "| one by one" in capsys.readouterr().out
    assert main(["serve", "--requests", "0"]) == 2
