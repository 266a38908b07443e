"""The training step: its speed keys change rounding at most, and unknown ones are refused."""

import pytest
import torch

from fastreid.config import CfgNode
from fastreid.utils.events import EventStorage

from conftest import CONFIGS, SHORT
from icre.engine import step as step_module
from icre.engine.optimizer import build_optimizer
from icre.config import load_config
from icre.engine.step import Step, compile_model, memory_layout, step_dtype
from icre.engine.trainer import Trainer
from icre.utils.errors import UserError

CPU = torch.device("cpu")


def one_step(config: str = "icre_r18", layout: str = "contiguous", backend: str = "") -> dict:
    """Losses and parameters after one step of SGD on a batch of noise."""
    cfg = load_config(
        str(CONFIGS / f"Demo/{config}.yml"),
        [*SHORT, "MODEL.HEADS.NUM_CLASSES", "4", "SOLVER.OPT", "SGD", "SOLVER.BASE_LR", "0.01"],
    )
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    layout = memory_layout(layout, CPU)
    model.to(memory_format=layout)
    compile_model(model, backend)
    step = Step(model, build_optimizer(cfg, model), CPU, cfg.SOLVER.AMP, layout)
    torch.manual_seed(1)
    step.batches = iter(
        [
            {
                "images": torch.randint(0, 256, (16, 32, 16, 3), dtype=torch.uint8),
                "targets": torch.arange(4).repeat_interleave(4),
                "camids": torch.zeros(16),
                "modalities": torch.tensor([0, 0, 1, 1] * 4),
            }
        ]
    )
    with EventStorage() as storage:
        step.run(log=True)
        losses = {name: value for name, (value, _) in storage.latest().items() if "loss" in name}
    return losses | {name: tensor.detach() for name, tensor in model.named_parameters()}


@pytest.mark.parametrize("config", ["icre_r18", "bagtricks_r18"])
@pytest.mark.parametrize(
    "options",
    [{"layout": "channels_last"}, {"backend": "aot_eager"}],
    ids=["channels_last", "compiled"],
)
def test_layout_and_compilation_change_rounding_only(config, options):
    plain, other = one_step(config), one_step(config, **options)
    assert plain.keys() == other.keys() and plain["total_loss"] > 0
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "capability, gain, dtype",
    [
        ("AVX2", 9, torch.float32),
        ("DEFAULT", 9, torch.float32),  # emulated there: not even tried
        ("AVX512", 0.7, torch.float32),
        ("AVX512", 1.1, torch.float32),
        ("AVX512", 1.4, torch.bfloat16),
    ],
)
def test_auto_precision_is_one_that_the_cpu_is_fast_in(capability, gain, dtype, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(
        step_module,
        "_convolution_seconds",
        lambda dtype: 1 / gain if dtype == torch.bfloat16 else 1,
    )
    uncached = step_module._cpu_gains_by_bf16.__wrapped__
    monkeypatch.setattr(step_module, "_cpu_gains_by_bf16", uncached)
    assert step_dtype(amp("auto"), CPU) == dtype
    assert step_dtype(amp("bfloat16"), CPU) == torch.bfloat16  # who names it gets it
    assert step_dtype(amp("auto", enabled=False), CPU) == torch.float32


def test_finding_the_precision_leaves_the_seed_alone():
    state = torch.get_rng_state()
    assert step_module._convolution_seconds(torch.bfloat16) > 0
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("has_bf16, dtype", [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_precision_on_a_gpu(has_bf16, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert step_dtype(amp("auto"), torch.device("cuda")) == dtype


def test_an_unknown_precision_is_refused_even_where_it_is_off():
    with pytest.raises(UserError, match="SOLVER.AMP.DTYPE 'half' is unknown; use auto, bfloat16"):
        step_dtype(amp("half", enabled=False), CPU)


def amp(dtype: str, enabled: bool = True) -> CfgNode:
    """The node SOLVER.AMP."""
    return CfgNode({"ENABLED": enabled, "DTYPE": dtype})


def test_auto_is_channels_last_on_a_gpu_only():
    assert memory_layout("auto", CPU) == torch.contiguous_format
    assert memory_layout("auto", torch.device("cuda")) == torch.channels_last


def test_unknown_names_list_the_known():
    with pytest.raises(UserError, match="SOLVER.LAYOUT 'oops'.*auto, contiguous, channels_last"):
        memory_layout("oops", CPU)
    with pytest.raises(UserError, match="SOLVER.COMPILE 'oops' is unknown; use .*inductor"):
        compile_model(torch.nn.Linear(1, 1), "oops")
