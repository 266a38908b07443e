"""What tests of work on a cluster share: commands in processes, and a model that workers know."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

from conftest import CONFIGS, SHORT
from icre.gallery.store import open_gallery
from icre.inference.extractor import read_config
from icre.modeling.build import build_model
from small_runs import STOCK, TINY_MODEL

TOOLS = CONFIGS.parent / "tools"
FILE = "model_final.pth"
LIMIT = 600.0  # seconds that a test waits for anything


def environment() -> dict[str, str]:
    """Of a command in a process of its own, whose cluster is its own too."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "RAY_ADDRESS": "local"}


def wait_for(happened, process, limit=LIMIT):
    """Wait until `happened()` is true; returns it."""
    deadline = time.monotonic() + limit
    while not (found := happened()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def tiny_model(folder: Path) -> Path:
    """Write config and checkpoint (FILE) of a tiny fast-reid model with random weights."""
    folder.mkdir()
    options = [*SHORT, *TINY_MODEL, "MODEL.DEVICE", "cpu", "MODEL.HEADS.NUM_CLASSES", "10"]
    cfg = read_config(CONFIGS / STOCK, *options)
    torch.manual_seed(0)
    weights = build_model(cfg).state_dict()
    torch.save({"model": weights, "config": cfg.dump()}, folder / FILE)
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


def rows_of(folder: Path) -> tuple[list[dict], np.ndarray]:
    """What is known of each image of a gallery, and its features."""
    gallery = open_gallery(folder)
    images = gallery.images
    return [images.row(row) for row in range(len(images))], np.asarray(gallery.features)
