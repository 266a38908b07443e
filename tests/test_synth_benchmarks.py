"""SynthVI: the frozen benchmarks are what they were, and a tree on disk can be held to them."""

import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from synthvi import benchmarks, tree
from synthvi.checksum import checksum, checksum_of_tree, environment
from synthvi.checksums import CHECKSUMS, ENVIRONMENT
from synthvi.layout import DemoError, plan

TOOL = Path(__file__).parents[1] / "tools" / "make_demo_data.py"


@pytest.mark.parametrize("name", benchmarks.BENCHMARKS)
def test_the_frozen_images_are_what_they_were(name):
    found = benchmarks.probe(benchmarks.benchmark(name))
    expected = CHECKSUMS[f"{name} report probe"]
    assert found.agrees(expected)
    if environment() == ENVIRONMENT:
        assert found.sha256 == expected.sha256


def test_sizes_of_the_benchmarks():
    small, large = benchmarks.benchmark("SynthVI-S"), benchmarks.benchmark("SynthVI", choosing=True)
    assert (small.ids, small.test_ids, small.height, small.width) == (500, 100, 96, 48)
    assert (large.ids, large.test_ids, large.height, large.width) == (400, 100, 192, 96)
    assert small.seed != large.seed and small.layout == large.layout == "sysu"
    assert len(plan(small).shots) == 18000


def test_the_checksum_tells_other_worlds_levels_and_missing_images():
    options = benchmarks.benchmark("SynthVI-S")
    options = replace(options, height=32, width=16)
    shots = [shot for shot in plan(options).shots if shot.pid == 1]
    made = checksum((shot.path, tree.encode(options, shot)) for shot in shots)
    again = checksum((shot.path, tree.encode(options, shot)) for shot in shots)
    assert made == again and made.images == 24 and len(made.means) == 24
    for other in (replace(options, seed=2), replace(options, difficulty="hard")):
        assert not made.agrees(checksum((s.path, tree.encode(other, s)) for s in shots))
    assert not made.agrees(checksum((s.path, tree.encode(options, s)) for s in shots[1:]))


def test_a_tree_is_verified_and_another_one_refused(tmp_path, monkeypatch, capsys):
    tiny = replace(
        benchmarks.BENCHMARKS["SynthVI-S"],
        ids=1,
        test_ids=1,
        train_images=1,
        test_images=1,
        height=32,
        width=16,
    )
    monkeypatch.setitem(benchmarks.BENCHMARKS, "SynthVI-S", tiny)
    monkeypatch.setattr(benchmarks, "CHECKSUMS", {})
    main = runpy.run_path(str(TOOL))["main"]
    command = ["--benchmark", "SynthVI-S", "--root", str(tmp_path / "x")]
    assert main([*command, "--workers", "1"]) == 0
    assert main([*command, "--verify"]) == 2
    assert "not recorded" in capsys.readouterr().err
    sums = {"SynthVI-S report tree": checksum_of_tree(tmp_path / "x")}
    monkeypatch.setattr(benchmarks, "CHECKSUMS", sums)
    assert main([*command, "--verify"]) == 0
    assert "12 images, the recorded bytes" in capsys.readouterr().out
    victim = tmp_path / "x" / "cam1" / "0001" / "0001.jpg"
    victim.write_bytes((tmp_path / "x" / "cam4" / "0001" / "0001.jpg").read_bytes())
    assert main([*command, "--verify"]) == 2
    said = capsys.readouterr().err
    assert "not SynthVI-S" in said and len(said.splitlines()) == 1


def test_recording_writes_what_the_renderer_gives(tmp_path, monkeypatch):
    tiny = replace(
        benchmarks.BENCHMARKS["SynthVI-S"],
        ids=1,
        test_ids=1,
        train_images=1,
        test_images=1,
        height=32,
        width=16,
    )
    monkeypatch.setitem(benchmarks.BENCHMARKS, "SynthVI-S", tiny)
    monkeypatch.setattr(benchmarks, "_RECORD", tmp_path / "checksums.py")
    made = benchmarks.record("SynthVI-S", workers=1)
    written = {}
    text = (tmp_path / "checksums.py").read_text()
    exec(text.replace("from .checksum", "from synthvi.checksum"), written)
    assert written["ENVIRONMENT"] == environment()
    assert {**CHECKSUMS, **made} == {**CHECKSUMS, **written["CHECKSUMS"]}
    assert len(made) == 4
    tree.write_tree(tmp_path / "x", benchmarks.benchmark("SynthVI-S"), workers=1, progress=False)
    assert checksum_of_tree(tmp_path / "x") == made["SynthVI-S report tree"]


def test_an_unknown_benchmark_names_the_known_ones():
    with pytest.raises(DemoError, match="choose from SynthVI-S, SynthVI"):
        benchmarks.benchmark("SynthVI-XL")
