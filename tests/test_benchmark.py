"""`benchmark protocol`: what it writes, and that it refuses to time wrong numbers."""

import json
from types import SimpleNamespace

import pytest

from icre.benchmark import protocol
from icre.commands.benchmark import main
from small_features import small_features


@pytest.mark.slow
def test_protocol_writes_ratio_machine_and_versions(tmp_path, capsys):
    small_features("sysu").save(tmp_path / "f.npz")
    out = tmp_path / "b.json"
    arguments = ["protocol", "--features", str(tmp_path / "f.npz"), "--json", str(out)]
    assert main([*arguments, "--repeat", "2"]) == 0
    result = json.loads(out.read_text())
    assert result["settings"] == 6 and result["permutation"] == "seeded stand-in"
    assert all(len(values) == 2 for values in result["seconds"].values())
    assert {"cpu", "cores", "date"} <= set(result) and "torch" in result["versions"]
    printed = capsys.readouterr().out
    assert f"{result['ratio']:.1f}x over 6 settings" in printed and "median of 2" in printed


def test_protocol_refuses_other_data_and_no_rounds(tmp_path, capsys):
    small_features("llcm").save(tmp_path / "f.npz")
    assert main(["protocol", "--features", str(tmp_path / "f.npz")]) == 2
    assert "SYSU-MM01" in capsys.readouterr().err
    assert main(["protocol", "--repeat", "0"]) == 2


@pytest.mark.parametrize("name", ["REFERENCE", "GOLDEN"])
def test_an_installed_package_without_the_tests_is_refused(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(protocol, name, tmp_path / "tests/reference/file.py")
    assert main(["protocol"]) == 2
    assert "tests/reference/file.py is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_sides_that_disagree_are_not_timed(tmp_path, monkeypatch):
    small_features("sysu").save(tmp_path / "f.npz")
    loops = protocol.load_reference().loop_score
    wrong = SimpleNamespace(loop_score=lambda *rows: [{**one, "mAP": 1.0} for one in loops(*rows)])
    monkeypatch.setattr(protocol, "load_reference", lambda: wrong)
    with pytest.raises(RuntimeError, match="mAP: vectorised"):
        main(["protocol", "--features", str(tmp_path / "f.npz"), "--repeat", "1"])
