"""SynthVI: the frozen benchmarks are what they were, and a tree on disk can be held to them."""

import json
from dataclasses import replace

import pytest

from icre.commands.render import main
from synthvi import benchmarks
from synthvi.checksum import checksum, checksum_of_tree, environment
from synthvi.layout import DemoError, plan
from synthvi.writer import encode, write_tree


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """SynthVI-S with twelve small images a world, and a file of checksums without it."""
    options = replace(
        benchmarks.BENCHMARKS["SynthVI-S"],
        ids=1,
        test_ids=1,
        train_images=1,
        test_images=1,
        height=32,
        width=16,
    )
    monkeypatch.setitem(benchmarks.BENCHMARKS, "SynthVI-S", options)
    other = {"images": 7, "sha256": "", "means": []}
    content = {"environment": "", "checksums": {"SynthVI test tree": other}}
    (tmp_path / "checksums.json").write_text(json.dumps(content))
    monkeypatch.setattr(benchmarks, "CHECKSUMS", tmp_path / "checksums.json")


@pytest.mark.slow
@pytest.mark.parametrize("name", benchmarks.BENCHMARKS)
def test_the_frozen_images_are_what_they_were(name):
    found = benchmarks.sample(benchmarks.benchmark(name))
    expected = benchmarks.recorded(name, "test", "sample")
    assert found.agrees(expected)
    if environment() == benchmarks.recorded_environment():
        assert found.sha256 == expected.sha256


def test_sizes_of_the_benchmarks():
    small, large = benchmarks.benchmark("SynthVI-S"), benchmarks.benchmark("SynthVI", "dev")
    assert (small.ids, small.test_ids, small.height, small.width) == (500, 100, 96, 48)
    assert (large.ids, large.test_ids, large.height, large.width) == (400, 100, 192, 96)
    assert small.seed != large.seed and small.layout == large.layout == "sysu"
    assert len(plan(small).shots) == 18000


@pytest.mark.slow
def test_the_checksum_tells_other_worlds_levels_and_missing_images():
    options = benchmarks.benchmark("SynthVI-S")
    options = replace(options, height=32, width=16, train_images=1, test_images=1)
    shots = [shot for shot in plan(options).shots if shot.pid == 1]
    files = [(shot.path, encode(options, shot)) for shot in shots]
    made = checksum(files)
    assert made == checksum(files) and made.images == 6 and len(made.means) == 24
    for other in (replace(options, seed=2), replace(options, difficulty="hard")):
        assert not made.agrees(checksum((s.path, encode(other, s)) for s in shots))
    assert not made.agrees(checksum(files[1:]))


@pytest.mark.slow
def test_a_tree_is_verified_and_another_one_refused(tiny, tmp_path, capsys):
    command = ["--benchmark", "SynthVI-S", "--root", str(tmp_path / "x"), "--workers", "1"]
    assert main(command) == 0
    assert main([*command, "--verify"]) == 2
    assert "not recorded" in capsys.readouterr().err
    assert main([*command, "--record"]) == 0
    assert main([*command, "--verify"]) == 0
    assert "12 images, the recorded bytes" in capsys.readouterr().out
    for option in ("--dev", "--choosing"):
        assert main([*command, "--verify", option]) == 2
        assert "not SynthVI-S (dev" in capsys.readouterr().err
    victim = tmp_path / "x" / "cam1" / "0001" / "0001.jpg"
    victim.write_bytes((tmp_path / "x" / "cam4" / "0001" / "0001.jpg").read_bytes())
    assert main([*command, "--verify"]) == 2
    message = capsys.readouterr().err
    assert "not SynthVI-S" in message and len(message.splitlines()) == 1


@pytest.mark.slow
def test_recording_writes_what_the_renderer_gives(tiny, tmp_path):
    made = benchmarks.record("SynthVI-S", workers=1)
    assert len(made) == 4 and benchmarks.recorded_environment() == environment()
    for key, value in made.items():
        assert benchmarks.recorded(*key.split()) == value
    assert benchmarks.recorded("SynthVI", "test", "tree").images == 7
    write_tree(tmp_path / "x", benchmarks.benchmark("SynthVI-S"), workers=1, progress=False)
    assert checksum_of_tree(tmp_path / "x") == made["SynthVI-S test tree"]


def test_an_unknown_benchmark_names_the_known_ones():
    with pytest.raises(DemoError, match="choose from SynthVI-S, SynthVI"):
        benchmarks.benchmark("SynthVI-XL")
