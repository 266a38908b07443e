"""`benchmark train`, `infer` and `data`: what they write, and that it adds up; never a speed."""

import json
from types import SimpleNamespace

import pytest
import torch

from conftest import CONFIGS
from icre.benchmark import measure, profile
from icre.benchmark.loops import FASTREID, ConfigLoop, Setup, random_batches
from icre.benchmark.measure import PARTS, StepTimer, count_flops, warm_and_peak
from icre.benchmark.setup import Options, read_setup
from icre.commands.benchmark import main
from icre.config import load_config

CPU = torch.device("cpu")
ICRE = str(CONFIGS / "Demo/icre_r18.yml")
BASELINE = str(CONFIGS / "Demo/baseline_r18.yml")
TINY = ("--size", "32x16", "--device", "cpu", "--steps", "1", "--rounds", "2")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(result as written, what was printed) of one tiny `train`."""
    out = tmp_path_factory.mktemp("benchmark") / "train.json"
    variant = ["--variant", "MODEL.SDCE.ENABLED=False", "MODEL.MPFR.MASK=softmax"]
    words = [*TINY, "--batch", "4", "--profile", *variant, "--json", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        # matrix products in bfloat16 take seconds where they are emulated
        patch.setattr(profile, "gemm_peak", lambda device, dtype: 1e11)
        patch.setattr(profile, "_STEPS", 1)
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        assert main(["train", "--config-file", ICRE, *words]) == 0
    return json.loads(out.read_text()), "\n".join(lines)


@pytest.mark.slow
def test_train_measures_each_row_in_each_round(measured):
    result, _ = measured
    rows = {row["name"]: row for row in result["rows"]}
    variant = "Demo/icre_r18 MODEL.SDCE.ENABLED=False MODEL.MPFR.MASK=softmax"
    assert list(rows) == ["Demo/icre_r18", variant, FASTREID]
    assert {row["precision"] for row in rows.values()} == {"fp32"}
    for row in rows.values():
        assert len(row["rounds"]) == 2 and min(row["rounds"]) > 0
        assert row["step_ms"] == pytest.approx(1000 * 4 / row["images_per_second"])
        assert row["cpu_ms"] > 0
        assert list(row["split_ms"]) == list(PARTS) and min(row["split_ms"].values()) >= 0
        assert 1 / 20 < sum(row["split_ms"].values()) / row["step_ms"] < 20  # of other steps
        assert row["step_flops"] >= 4 * 2 * 2.5 * row["macs_per_image"]  # backward: twice forward
    assert rows[FASTREID]["ratio"] == 1 and result["reference"] == FASTREID
    assert rows["Demo/icre_r18"]["macs_per_image"] > rows[FASTREID]["macs_per_image"]
    assert rows["Demo/icre_r18"]["parameters"] > rows[variant]["parameters"]
    assert {"cpu", "date", "versions"} <= set(result)
    assert result["batch"] == 4 and result["size"] == [32, 16] and result["device"] == "cpu"


@pytest.mark.slow
def test_the_table_says_what_the_json_says(measured):
    result, printed = measured
    table = [line for line in printed.splitlines() if line.startswith("|")]
    for row in result["rows"]:
        cells = [
            cell.strip()
            for cell in next(
                line for line in table if line.split("|")[1].strip() == row["name"]
            ).split("|")[1:-1]
        ]
        split = [f"{row['split_ms'][part]:.1f}" for part in PARTS]
        assert cells[1:10] == [
            row["precision"],
            f"{row['images_per_second']:.1f}",
            f"{row['ratio']:.2f}",
            f"{row['step_ms']:.1f}",
            f"{row['cpu_ms']:.1f}",
            *split,
        ]
        assert cells[-1] == f"{row['parameters'] / 1e6:.1f}"
    assert [line for line in printed.splitlines() if "left out" in line] == result["left_out"]
    assert len(result["left_out"]) == 2 and "--agw" in result["left_out"][0]


@pytest.mark.slow
def test_the_profile_names_operations_and_what_bounds_the_step(measured):
    result, printed = measured
    assert {"fp32", "bf16"} == set(result["gemm_flops"])
    for row in result["rows"]:
        names = [one["operation"] for one in row["profile"]]
        assert any("conv" in name for name in names)
        shares = [one["share"] for one in row["profile"]]
        assert shares == sorted(shares, reverse=True) and sum(shares) <= 1
        assert f"{row['name']}: {row['step_flops'] / 1e9:.1f} GFLOP in" in printed
    assert printed.count("; bound by ") == len(result["rows"])


def test_precision_is_what_the_config_says():
    amp = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"]
    cfg = load_config(BASELINE, ["MODEL.DEVICE", "cpu", *amp])
    assert ConfigLoop("row", cfg, Setup(batch=8, size=(32, 16), device=CPU)).precision == "bf16"


@pytest.mark.slow
def test_train_loads_images_as_each_loop_does(demo_root, capsys, tmp_path):
    out = tmp_path / "b.json"
    data = ["--data", str(demo_root), "--opts", "DATALOADER.NUM_WORKERS", "0"]
    words = [*TINY, "--batch", "4", *data, "--reference", "Demo/baseline_r18", "--json", str(out)]
    assert main(["train", "--config-file", BASELINE, *words]) == 0
    result = json.loads(out.read_text())
    assert result["images"] == "loaded by 0 workers"
    assert [row["ratio"] == 1 for row in result["rows"]] == [True, False]
    assert "x Demo/baseline_r18" in capsys.readouterr().out


@pytest.mark.slow
def test_infer_has_a_line_per_row_and_batch(capsys, tmp_path):
    out = tmp_path / "b.json"
    words = [*TINY, "--batches", "1", "3", "--flip", "--json", str(out)]
    assert main(["infer", "--config-file", BASELINE, *words]) == 0
    result = json.loads(out.read_text())
    lines = [(row["name"], row["batch"]) for row in result["rows"]]
    assert lines == [(name, size) for size in (1, 3) for name in ("Demo/baseline_r18", FASTREID)]
    printed = capsys.readouterr().out
    for row in result["rows"]:
        assert row["ms_per_image"] == pytest.approx(1000 / row["images_per_second"])
        assert f"| {row['ms_per_image']:.2f} " in printed
    assert result["flip"] and "with mirrored images" in printed


def test_data_times_loaders_and_stages(demo_root, capsys, tmp_path):
    out = tmp_path / "b.json"
    data = ["--workers", "0", "--data", str(demo_root), "--json", str(out)]
    assert main(["data", "--config-file", ICRE, *TINY, "--batch", "8", *data]) == 0
    result = json.loads(out.read_text())
    names = ["ours, decoding", "ours, from the cache", FASTREID]
    assert [row["name"] for row in result["rows"]] == names == list(result["stages_ms"])
    assert result["rows"][2]["ratio"] == 1 and result["workers"] == 0
    printed = capsys.readouterr().out
    for name, stages in result["stages_ms"].items():
        assert list(stages) == ["decode", "resize", "augment", "collate", "transfer"]
        assert min(stages.values()) >= 0 and f"{sum(stages.values()):.3f}" in printed
    assert result["stages_ms"][names[1]]["decode"] < result["stages_ms"][names[0]]["decode"]


@pytest.mark.parametrize(
    "options, complaint",
    [
        (("--batch", "2"), "--batch 2"),
        (("--batch", "7"), "--batch 7"),
        (("--size", "32"), "--size 32"),
        (("--rounds", "0"), "--rounds"),
        (("--reference", "nobody"), "--reference 'nobody'"),
        (("--variant", "SOLVER.COMPILE"), "write KEY=VALUE"),
        (("--variant", "SOLVER.NONSENSE=1"), "NONSENSE"),
        (("--agw", "nowhere"), "no model.py in nowhere"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(capsys, options, complaint):
    assert main(["train", "--config-file", BASELINE, *TINY, "--no-stock", *options]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("batch, instances", [(64, 4), (6, 1), (8, 2), (12, 3)])
def test_each_batch_has_two_identities(batch, instances):
    opts = ["DATALOADER.NUM_INSTANCE", "4"]
    setup = read_setup(Options([BASELINE], opts, "32x16", "cpu", batch=batch))
    assert (setup.batch, setup.instances) == (batch, instances)


def test_a_split_is_the_whole_step(monkeypatch):
    clock = [0]  # whole seconds, so that a machine that stalls changes nothing
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    timer = StepTimer(CPU)
    weight = torch.ones(1, requires_grad=True)
    model = timer.wrap(torch.nn.Flatten(0))

    def spend(seconds):
        clock[0] += seconds

    def step():
        spend(1)
        loss = (model(weight) * 2).sum()
        spend(2)
        loss.register_hook(lambda _: spend(4))
        loss.backward()
        spend(8)

    assert timer.split(step, 2) == {"data": 1, "forward": 2, "backward": 4, "optimiser": 8}


def test_the_split_leaves_no_patch_behind():
    backward = torch.Tensor.backward
    with pytest.raises(ZeroDivisionError):
        StepTimer(CPU).split(lambda: 1 / 0, 1)
    assert torch.Tensor.backward is backward


def test_flops_of_a_product_are_counted_by_hand():
    first, second = torch.ones(2, 3), torch.ones(3, 5)
    assert count_flops(lambda: first @ second) == 2 * 2 * 3 * 5
    assert profile.gemm_peak(CPU, torch.float32, seconds=0.0) > 0


@pytest.mark.slow
def test_peak_memory_is_of_what_is_built_and_used():
    uses = []

    def use(built):
        uses.append(torch.ones(32 << 20, dtype=torch.uint8).sum().item())

    built, peak = warm_and_peak(CPU, lambda: torch.ones(64 << 20, dtype=torch.uint8), use)
    assert len(built) == 64 << 20 and len(uses) == 3
    assert peak is None or peak > 90 << 20  # None: not on Linux
    _, small = warm_and_peak(CPU, lambda: torch.ones(1), lambda built: built.sum())
    assert small is None or small < 30 << 20


def test_random_batches_hold_each_identity_in_both_modalities():
    setup = Setup(batch=8, size=(4, 2), device=CPU, instances=2)
    batch = random_batches(setup)[0]
    assert batch["images"].shape == (8, 4, 2, 3) and batch["images"].dtype == torch.uint8
    assert batch["targets"].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
    assert batch["modalities"].tolist() == [0] * 4 + [1] * 4
    assert torch.equal(batch["images"], random_batches(setup)[0]["images"])
    assert all(len(values) == 3 for values in random_batches(setup, 3)[0].values())
