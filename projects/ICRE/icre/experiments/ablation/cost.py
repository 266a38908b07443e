"""Cost of a row's model, beside its results: parameters, multiply-accumulates, images a second."""

import torch

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.inference.cost import analyze, some_batch
from icre.modeling.build import build_model
from icre.modeling.pretrained import without_pretrained
from icre.runs.checkpoint import CLASSIFIER

BATCH = 32  # images of a timed pass
COST = (
    "Parameters without classifiers, multiply-accumulates of an image, and images per second of "
    f"feature extraction (batches of {BATCH}, one CPU thread, on the machine that made this table)."
)


def model_cost(cfg: CfgNode) -> dict[str, float]:
    """Cost of feature extraction by a config's model, with random weights on the CPU.

    Returns:
        {"parameters": without those of classifiers, "macs": multiply-accumulates per image,
        "images_per_second": of one thread}.
    """
    cfg = without_pretrained(cfg)
    cfg.MODEL.HEADS.NUM_CLASSES = 1  # known by a training alone
    model = build_model(cfg, "cpu").eval()
    parameters = sum(p.numel() for key, p in model.named_parameters() if not CLASSIFIER.match(key))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        size, device = cfg.INPUT.SIZE_TEST, torch.device("cpu")
        total = analyze(model, lambda: some_batch(BATCH, size, device))[-1]
    finally:
        torch.set_num_threads(threads)
    return {"parameters": parameters, "macs": total.macs, "images_per_second": 1e3 / total.ms}


def cost_cells(cost: dict[str, float]) -> dict[str, str]:
    """Cells of the table."""
    return {
        "parameters [M]": f"{cost['parameters'] / 1e6:.2f}",
        "MACs [G]": f"{cost['macs'] / 1e9:.2f}",
        "images/s": f"{cost['images_per_second']:.0f}",
    }
