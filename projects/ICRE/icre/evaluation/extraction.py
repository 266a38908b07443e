"""Feature extraction: a model over the batches of a test loader."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import icre.compat  # noqa: F401

from fastreid.utils import comm

from icre.data.batch import to_device
from icre.data.faults import worker_faults
from icre.utils.device import exact
from icre.utils.progress import progress_bar

if TYPE_CHECKING:  # fastreid.evaluation imports scikit-learn
    from fastreid.evaluation import DatasetEvaluator


def extract_features(
    model: nn.Module, batches: Iterable[dict], device: torch.device, flip: bool = False
) -> Iterator[tuple[dict[str, Any], Any]]:
    """Features batch by batch, in evaluation mode and without gradients; with a progress bar.

    fast-reid's `inference_on_dataset` normalises flipped images twice (its models normalise the
    batch in place); here the flipped copy is made before the first pass.

    Args:
        model: batch -> features (B, D), or {name: (B, D)} of several. Under DDP its buffers become
            those of the first rank: batch norms of each rank have seen other images, but one model
            is scored.
        batches: with a length; a test loader, or any iterable of batches.
        device: of the model.
        flip: average the features of each image and its mirror image.

    Yields:
        The batch on the device, and its features as the model gives them.
    """
    _share_buffers(model)
    quiet = len(batches) == 1 or not comm.is_main_process()  # type: ignore[arg-type]
    was_training = model.training
    model.eval()
    try:
        with worker_faults():
            for batch in progress_bar(batches, "extracting features", unit="batch", disable=quiet):
                batch = to_device(batch, device)
                features = _features(model, batch, flip)
                yield batch, features
    finally:
        model.train(was_training)


def run_inference(
    model: nn.Module,
    batches: Iterable[dict],
    evaluator: "DatasetEvaluator",
    device: torch.device,
    flip: bool = False,
) -> dict:
    """Feed the features of all batches to an evaluator of fast-reid's interface.

    Args:
        model, batches, device, flip: see `extract_features`.
        evaluator: `reset`, `process(batch, features)` and `evaluate`.

    Returns:
        What the evaluator returns; an empty dict on other ranks than the first.
    """
    evaluator.reset()
    with worker_faults():  # a dying worker raises wherever the main process happens to be
        for batch, features in extract_features(model, batches, device, flip):
            evaluator.process(batch, features)
    return evaluator.evaluate() or {}


@torch.no_grad()
def _features(model: nn.Module, batch: dict[str, Any], flip: bool) -> Any:
    mirrored = batch["images"].flip(dims=[3]) if flip else None
    # a training that is compiled and one that is not are evaluated alike
    with exact(batch["images"].device), torch.compiler.set_stance("force_eager"):
        features = model(batch)
        if mirrored is None:
            return features
        others = model({**batch, "images": mirrored})
    if isinstance(features, Tensor):
        return (features + others) / 2
    return {name: (one + others[name]) / 2 for name, one in features.items()}


def _share_buffers(model: nn.Module) -> None:
    """Give every rank the first one's buffers, which are also those in the checkpoint."""
    if comm.get_world_size() > 1 and isinstance(model, nn.Module):  # an exported file has none
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
