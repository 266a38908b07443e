"""Running a model over a test loader."""

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

import icre.compat  # noqa: F401

from fastreid.evaluation import DatasetEvaluator
from fastreid.evaluation.evaluator import inference_context
from fastreid.utils import comm

from icre.data.faults import worker_faults
from icre.engine.step import to_device


@torch.no_grad()
def run_inference(
    model: nn.Module,
    loader: DataLoader,
    evaluator: DatasetEvaluator,
    device: torch.device,
    flip: bool = False,
) -> dict:
    """Feed every batch to the model and the evaluator, then evaluate; with a progress bar.

    Works like fast-reid's `inference_on_dataset`, which normalises the flipped images twice: its
    models normalise the batch in place, so the flipped copy is made before the first pass.

    Args:
        model: features (B, D) from a batch, in evaluation mode. Its buffers become the first
            rank's: each rank's batch norms have seen other images, but one model is scored.
        loader: of CrossModalDataset or any fast-reid data set.
        evaluator: fast-reid's interface (reset, process, evaluate).
        device: where the batches go.
        flip: average the features of each image and its mirror image.

    Returns:
        What the evaluator returns; an empty dict on other ranks than the first.
    """
    evaluator.reset()
    _share_buffers(model)
    one = len(loader) == 1  # a bar that is full at once tells nothing
    quiet = True if one or not comm.is_main_process() else None  # None: only on a terminal
    with worker_faults(), inference_context(model):
        for batch in tqdm(loader, "extracting features", unit="batch", disable=quiet):
            batch = to_device(batch, device)
            mirrored = batch["images"].flip(dims=[3]) if flip else None
            features = model(batch)
            if flip:
                features = (features + model({**batch, "images": mirrored})) / 2
            evaluator.process(batch, features)
    return evaluator.evaluate() or {}


def _share_buffers(model: nn.Module) -> None:
    """Give every rank the first one's buffers, which are also those in the checkpoint."""
    if comm.get_world_size() > 1 and isinstance(model, nn.Module):  # an exported file has none
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
