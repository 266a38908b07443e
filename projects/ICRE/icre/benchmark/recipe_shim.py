"""Runs a public code's scripts as they are, in a process of their own, in the folder they lie in.

    python recipe_shim.py run pre_process_sysu.py
    python recipe_shim.py train OUT.t WEIGHTS.pth [arguments of train.py]
    python recipe_shim.py score FEATURES.npz

Their scripts are of Pillow 9, torch 1 and a GPU; what those had is lent to them here.
"""

import json
import random
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.model_zoo
from PIL import Image


def lend_old_names() -> None:
    """Give Pillow, torch and the missing tensorboardX what their scripts call."""
    vars(Image).setdefault("ANTIALIAS", Image.Resampling.LANCZOS)
    original = torch.Tensor.addmm_

    def addmm(self: torch.Tensor, *values: Any, **options: Any) -> torch.Tensor:
        if len(values) == 4:  # torch 1: beta, alpha, a, b
            return original(self, *values[2:], beta=values[0], alpha=values[1])
        return original(self, *values, **options)

    torch.Tensor.addmm_ = addmm  # type: ignore[method-assign, assignment]
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *args, **options: self  # type: ignore
    board = types.ModuleType("tensorboardX")

    class SummaryWriter:
        def __init__(self, *args: Any):
            pass

        def add_scalar(self, *args: Any) -> None:
            pass

    vars(board)["SummaryWriter"] = SummaryWriter
    sys.modules.setdefault("tensorboardX", board)


def train(out: str, weights: str, words: list[str]) -> None:
    """Run train.py from weights in place of a download, then save its last ones as its best."""
    torch.utils.model_zoo.load_url = lambda *args, **options: torch.load(weights, weights_only=True)
    sys.argv = ["train.py", *words]
    random.seed(int(words[words.index("--seed") + 1]))  # of the erasing, which they do not seed
    after = runpy.run_path("train.py", run_name="__main__")
    torch.save({"net": after["net"].state_dict(), "epoch": after["epoch"]}, out)


def score(file: str) -> None:
    """Rank-1 and mAP by their evaluation, mean over their ten galleries, as a line of JSON.

    Their networks L2-normalise what they give to it.
    """
    import data_manager  # type: ignore[import-not-found]
    import eval_metrics  # type: ignore[import-not-found]

    content = np.load(file)
    rows = {Path(path).parts[-3:]: i for i, path in enumerate(content["paths"].tolist())}
    features = content["features"] / np.linalg.norm(content["features"], axis=1, keepdims=True)

    def of(images: list[str]) -> np.ndarray:
        return features[[rows[Path(image).parts[-3:]] for image in images]]

    query, pids, camids = data_manager.process_query_sysu("./data/", mode="all")
    totals = np.zeros(2)
    for trial in range(10):
        gallery, *labels = data_manager.process_gallery_sysu("./data/", mode="all", trial=trial)
        distances = -of(query) @ of(gallery).T
        cmc, mAP, _ = eval_metrics.eval_sysu(distances, pids, labels[0], camids, labels[1])
        totals += 100 * np.array([cmc[0], mAP]) / 10
    print(json.dumps(dict(zip(("Rank-1", "mAP"), totals.tolist()))))


def main() -> None:
    """One of the three."""
    sys.path[0] = ""  # their folder, not that of this file, whose modules would hide others
    kind, name, *words = sys.argv[1:]
    lend_old_names()
    if kind == "train":
        train(name, words[0], words[1:])
    elif kind == "score":
        score(name)
    else:
        sys.argv = [name, *words]
        runpy.run_path(name, run_name="__main__")


if __name__ == "__main__":
    main()
