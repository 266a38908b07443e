"""The training step: its speed keys change rounding at most, and unknown ones are refused."""

import pytest
import torch

from fastreid.config import CfgNode
from fastreid.utils.events import EventStorage

from conftest import CONFIGS, SHORT
from icre.config import load_config
from icre.engine.optimizer import build_optimizer
from icre.engine.step import Step, compile_model, step_dtype
from icre.engine.trainer import Trainer
from icre.utils.device import resolve_memory_format
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
    layout = resolve_memory_format(layout, CPU)
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


@pytest.mark.slow
@pytest.mark.parametrize("config", ["icre_r18", "bagtricks_r18"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"layout": "channels_last"}, id="channels_last"),
        pytest.param({"backend": "aot_eager"}, id="compiled", marks=pytest.mark.slow),
    ],
)
def test_layout_and_compilation_change_rounding_only(config, options):
    plain, other = one_step(config), one_step(config, **options)
    assert plain.keys() == other.keys() and plain["total_loss"] > 0
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def test_auto_precision_on_a_cpu_is_float32_until_another_is_named():
    assert step_dtype(amp("auto"), CPU) == torch.float32
    assert step_dtype(amp("bfloat16"), CPU) == torch.bfloat16
    assert step_dtype(amp("bfloat16", enabled=False), CPU) == torch.float32


@pytest.mark.parametrize("has_bf16, dtype", [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_precision_on_a_gpu(has_bf16, dtype, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert step_dtype(amp("auto"), torch.device("cuda")) == dtype


def amp(dtype: str, enabled: bool = True) -> CfgNode:
    """The node SOLVER.AMP."""
    return CfgNode({"ENABLED": enabled, "DTYPE": dtype})


def test_auto_is_channels_last_on_a_gpu_only():
    assert resolve_memory_format("auto", CPU) == torch.contiguous_format
    assert resolve_memory_format("auto", torch.device("cuda")) == torch.channels_last


@pytest.mark.parametrize(
    "key, known", [("SOLVER.AMP.DTYPE", "bfloat16"), ("SOLVER.LAYOUT", "channels_last")]
)
def test_unknown_names_list_the_known(key, known):
    with pytest.raises(UserError, match=rf"{key}.*oops.*{known}"):
        load_config("", [key, "oops"])
    with pytest.raises(UserError, match=r"SOLVER.COMPILE 'oops' .*inductor"):
        compile_model(torch.nn.Linear(1, 1), "oops")
