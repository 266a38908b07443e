"""The training step: its speed keys change rounding at most, and unknown ones are refused."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo import register_backend
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import counters

from fastreid.config import CfgNode
from fastreid.utils.events import EventStorage

from conftest import CONFIGS, SHORT
from icre.config import load_config
from icre.engine.optimizer import build_optimizer
from icre.engine.step import Step, compile_model, step_dtype
from icre.engine.trainer import Trainer
from icre.evaluation.extraction import extract_features
from icre.evaluation.rerank import rerank
from icre.evaluation.score import score
from icre.utils.device import resolve_memory_format
from icre.utils.errors import UserError
from small_features import small_features
from small_model import NARROW

CPU = torch.device("cpu")


def new_step(config: str, layout: str = "contiguous", compiled: str = "", *options: str) -> Step:
    """Of SGD on batches of noise."""
    sgd = ["MODEL.HEADS.NUM_CLASSES", "4", "SOLVER.OPT", "SGD", "SOLVER.BASE_LR", "0.01"]
    cfg = load_config(
        str(CONFIGS / f"Demo/{config}.yml"), [*SHORT, *sgd, *options, "SOLVER.LAYOUT", layout]
    )
    torch.manual_seed(0)
    model = Trainer.build_model(cfg)
    compile_model(model, compiled)
    layout = resolve_memory_format(layout, CPU)
    step = Step(model, build_optimizer(cfg, model), CPU, cfg.SOLVER.AMP, layout)
    step.batches = noise()
    return step


def noise() -> Iterator[dict]:
    """Batches of 4 identities, two images of each in either modality."""
    random = torch.Generator().manual_seed(1)
    while True:
        yield {
            "images": torch.randint(
                256, (16, 32, 16, 3), generator=random, dtype=torch.uint8, device="cpu"
            ),
            "targets": torch.tensor([0, 1, 2, 3], device="cpu").repeat_interleave(4),
            "camids": torch.zeros(16, device="cpu"),
            "modalities": torch.tensor([0, 0, 1, 1] * 4, device="cpu"),
        }


def one_step(config: str, layout: str = "contiguous", compiled: str = "", steps: int = 1) -> dict:
    """Losses and parameters after so many steps."""
    step = new_step(config, layout, compiled)
    with EventStorage() as storage:
        for _ in range(steps):
            step.run(log=True)
        losses = {name: value for name, (value, _) in storage.latest().items() if "loss" in name}
    return losses | {name: tensor.detach() for name, tensor in step.model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("config", ["icre_r18", "bagtricks_r18"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"layout": "channels_last"}, id="channels_last"),
        pytest.param({"compiled": "aot_eager"}, id="compiled"),
        pytest.param({"compiled": "static_results", "steps": 3}, id="graphs"),
    ],
)
def test_layout_and_compilation_change_rounding_only(config, options):
    plain = one_step(config, steps=options.get("steps", 1))
    other = one_step(config, **options)
    assert plain.keys() == other.keys() and plain["total_loss"] > 0
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def static_results(graph: torch.fx.GraphModule, inputs: list) -> Callable:
    """Stands for a CUDA graph, which writes its results to the same memory in each step."""
    kept: list = []

    def run(*args):
        results = graph(*args)
        if not kept:
            kept.extend(one.clone() if isinstance(one, torch.Tensor) else one for one in results)
        for mine, one in zip(kept, results):
            if isinstance(one, torch.Tensor):
                mine.copy_(one)
        return [one.detach() if isinstance(one, torch.Tensor) else one for one in kept]

    return make_boxed_func(run)


register_backend(aot_autograd(fw_compiler=static_results), "static_results")


@pytest.mark.slow
@pytest.mark.parametrize("config, graphs", [("icre_r18", 1), ("bagtricks_r18", 2)])
def test_a_model_is_compiled_once(config, graphs):
    """Whatever changes in a training: the batch, the learning rate, evaluation, what is logged."""
    narrow = map(str, NARROW if graphs == 1 else ())
    step = new_step(config, "contiguous", "aot_eager", *narrow)
    torch._dynamo.reset()
    counters.clear()
    with EventStorage() as storage:
        for number in range(6):
            step.run(log=number % 2 == 0)
            storage.step()
            step.optimizer.param_groups[0]["lr"] *= 0.5
            if number == 3:
                ((_, features),) = extract_features(step.model, [next(step.batches)], CPU, True)
                assert features.isfinite().all() and step.model.training
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"] and not counters["recompile_limit"]


def test_nothing_depends_on_torchs_default_device():
    """What does would mix the CPU with a GPU."""
    step = new_step("icre_r18", "contiguous", "", *map(str, NARROW))
    with EventStorage(), torch.device("meta"):
        step.run(log=True)
        ((_, features),) = extract_features(step.model, [next(step.batches)], CPU, True)
    assert features.shape == (16, 64) and features.isfinite().all()
    data = small_features("regdb")
    plain = score(data, reranker="fastreid")
    with torch.device("meta"):
        assert score(data, reranker="fastreid") == plain
        distances = rerank(*torch.from_numpy(unit(data)).split([20, len(data) - 20]))
    assert distances.isfinite().all()


def unit(data) -> np.ndarray:
    features = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    return features.astype(np.float32)


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


class Slope(torch.nn.Module):
    """A loss whose gradient is 3."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4))

    def forward(self, batch: dict) -> dict[str, torch.Tensor]:
        return {"loss": 3 * self.weight.sum()}


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW", "RMSprop"])
@pytest.mark.parametrize("kind", ["value", "norm"])
def test_gradients_are_clipped_without_float16s_scale(optimizer, kind):
    clip = ["SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind]
    more = ["SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.001", "SOLVER.WEIGHT_DECAY", "0.0"]
    cfg = load_config("", ["SOLVER.OPT", optimizer, "SOLVER.BASE_LR", "0.1", *clip, *more])
    found = {}
    for dtype in ("float16", "bfloat16"):
        model = Slope()
        step = Step(model, build_optimizer(cfg, model), CPU, amp(dtype))
        step.batches = noise()
        assert (step.grad_scaler is not None) == (dtype == "float16")
        step.run(log=False)
        found[dtype] = model.weight.detach()
    assert found["bfloat16"].all()
    torch.testing.assert_close(found["float16"], found["bfloat16"], rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "key, known", [("SOLVER.AMP.DTYPE", "bfloat16"), ("SOLVER.LAYOUT", "channels_last")]
)
def test_unknown_names_list_the_known(key, known):
    with pytest.raises(UserError, match=rf"{key}.*oops.*{known}"):
        load_config("", [key, "oops"])
    with pytest.raises(UserError, match=r"SOLVER.COMPILE 'oops' .*inductor.*reduce-overhead"):
        compile_model(torch.nn.Linear(1, 1), "oops")
