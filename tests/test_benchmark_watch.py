"""Benchmarks show each row as it is measured, keep it when they are killed, and end at a limit."""

import json
import subprocess
import sys
import time

import pytest

from conftest import CONFIGS
from icre.benchmark.watch import Watch
from icre.commands import benchmark
from small_features import small_features

SEARCH = ["search", "--size", "3000", "--queries", "20", "--dimensions", "16", "--kinds", "ivf"]


def test_the_first_item_tells_how_long_all_take(capsys, tmp_path):
    watch = Watch(tmp_path / "b.json")
    for size in watch.each([1, 2, 3], "sizes", lambda size: size**2):
        if size == 1:
            time.sleep(0.1)
        watch.row(f"size {size}", size=size)
        kept = json.loads((tmp_path / "b.json").read_text())
        assert kept["partial"] is True and kept["measured"][-1] == {
            "row": f"size {size}",
            "size": size,
        }
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "3 sizes: 1, 2, 3" and "about 1 s for the other sizes" in printed
    assert [line.split("] ")[1] for line in printed if "] " in line] == [
        "size 1",
        "size 2",
        "size 3",
    ]


def test_nothing_is_begun_after_the_limit(capsys):
    watch = Watch(limit=0)
    assert list(watch.each("abc", "rows")) == ["a"]
    assert watch.left_out == ["--limit: not begun of the rows: b, c"]
    assert watch.left_out[0] in capsys.readouterr().out


def test_quick_stands_for_arguments_that_may_be_named(tmp_path):
    seen = {}
    command = benchmark.parser()

    class Stop(Exception):
        pass

    def keep(args, watch):
        seen.update(vars(args))
        raise Stop

    for words, sizes in ((["--quick"], [1000, 4000]), (["--quick", "--sizes", "300"], [300])):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
            patch.setitem(benchmark.COMMANDS, "rerank", (*benchmark.COMMANDS["rerank"][:2], keep))
            benchmark.main(["rerank", *words])
        assert seen["sizes"] == sizes and seen["repeat"] == 1
    assert command.parse_args(["rerank"]).repeat == 2


def test_the_limit_leaves_a_whole_result(tmp_path, capsys):
    out = tmp_path / "b.json"
    assert benchmark.main([*SEARCH, "hnsw", "--limit", "0", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert "partial" not in result and {row["index"] for row in result["rows"]} == {"flat", "ivf"}
    assert "not begun of the indexes of 3000 vectors: hnsw" in capsys.readouterr().out


@pytest.mark.slow
def test_what_was_measured_survives_a_kill(tmp_path):
    out = tmp_path / "b.json"
    words = ["search", "--size", "1000", "900000", "--queries", "20", "--kinds", "ivf"]
    command = [sys.executable, "-m", "icre", "benchmark", *words, "--json", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "1000 vectors, ivf" in line:
            break
    process.kill()
    process.wait()
    kept = json.loads(out.read_text())
    assert kept["partial"] and kept["measured"][-1]["index"] == "ivf"


@pytest.mark.slow
def test_all_writes_one_file(tmp_path, monkeypatch, capsys):
    small = {
        "search": SEARCH[1:],
        "rerank": ["--sizes", "100", "--repeat", "1", "--dimensions", "16"],
        "train": ["--steps", "1", "--rounds", "1", "--size", "32x16", "--batch", "4"],
        "infer": ["--steps", "1", "--rounds", "1", "--size", "32x16", "--batches", "2"],
        "protocol": ["--repeat", "1", "--features", str(tmp_path / "f.npz")],
    }
    small_features("sysu").save(tmp_path / "f.npz")
    monkeypatch.setattr(benchmark, "QUICK", benchmark.QUICK | small)
    out = tmp_path / "all.json"
    config = str(CONFIGS / "Demo/icre_r18.yml")
    words = ["all", "--quick", "--device", "cpu", "--config-file", config, "--json", str(out)]
    assert benchmark.main(words) == 0
    found = json.loads(out.read_text())
    assert list(found) == ["train", "infer", "rerank", "search", "protocol"]
    assert all(one["benchmark"] == name for name, one in found.items())
    assert "x exact" in capsys.readouterr().out
