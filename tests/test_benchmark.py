"""tools/benchmark.py: what it writes, and that it refuses to time wrong numbers."""

import importlib.util
import json
from pathlib import Path

import pytest

from icre.benchmark import protocol
from small_features import small_features

TOOL = Path(__file__).parents[1] / "tools" / "benchmark.py"


@pytest.fixture
def main():
    spec = importlib.util.spec_from_file_location("tool_benchmark", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_protocol_writes_ratio_machine_and_versions(main, tmp_path, capsys):
    small_features("sysu").save(tmp_path / "f.npz")
    out = tmp_path / "b.json"
    arguments = ["protocol", "--features", str(tmp_path / "f.npz"), "--json", str(out)]
    assert main([*arguments, "--repeat", "2"]) == 0
    result = json.loads(out.read_text())
    assert result["settings"] == 6 and result["permutation"] == "seeded stand-in"
    assert all(len(values) == 2 for values in result["seconds"].values())
    assert {"cpu", "cores", "date"} <= set(result) and "torch" in result["versions"]
    assert f"{result['ratio']:.1f}x over 6 settings" in capsys.readouterr().out


def test_protocol_refuses_other_data_and_no_rounds(main, tmp_path, capsys):
    small_features("llcm").save(tmp_path / "f.npz")
    assert main(["protocol", "--features", str(tmp_path / "f.npz")]) == 2
    assert "needs features of SYSU-MM01" in capsys.readouterr().err
    assert main(["protocol", "--repeat", "0"]) == 2


def test_sides_that_disagree_are_not_timed(main, tmp_path, monkeypatch):
    small_features("sysu").save(tmp_path / "f.npz")
    loops = protocol.loop_score
    monkeypatch.setattr(
        protocol, "loop_score", lambda *rows: [{**one, "mAP": 1.0} for one in loops(*rows)]
    )
    with pytest.raises(RuntimeError, match="mAP: vectorised"):
        main(["protocol", "--features", str(tmp_path / "f.npz"), "--repeat", "1"])
