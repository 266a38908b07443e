"""Shared by all tests: a tiny rendered SYSU-MM01 tree, and short runs of the real command."""

import shutil
from pathlib import Path

import pytest
import torch

import icre.compat.evaluation  # noqa: F401

from icre.commands import train as train_net
from synthvi.layout import DemoOptions
from synthvi.writer import write_tree

CONFIGS = Path(__file__).parents[1] / "configs"
TINY = DemoOptions(ids=10, test_ids=4, train_images=2, test_images=3, height=32, width=16, seed=3)
# 2 epochs of 10 steps: 4 identities x (2 visible + 2 infrared) images of 32 x 16
SHORT = (
    "INPUT.SIZE_TRAIN",
    "[32, 16]",
    "INPUT.SIZE_TEST",
    "[32, 16]",
    "DATALOADER.NUM_INSTANCE",
    "2",
    "SOLVER.IMS_PER_BATCH",
    "16",
    "SOLVER.MAX_EPOCH",
    "2",
    "DATALOADER.NUM_WORKERS",
    "0",
)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors: threads only get in each other's way."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory) -> Path:
    """DATASETS.ROOT with a tiny SYSU-MM01 tree in it; not to be changed."""
    root = tmp_path_factory.mktemp("datasets")
    write_tree(root / "SYSU-MM01", TINY, workers=1, progress=False)
    return root


@pytest.fixture
def own_root(demo_root, tmp_path) -> Path:
    """A copy of `demo_root` that a test may damage."""
    shutil.copytree(demo_root, tmp_path / "datasets")
    return tmp_path / "datasets"


def train(root: Path, output: Path, *options: str, config: str = "Demo/icre_r18.yml") -> None:
    """Run tools/train_net.py's command in this process; options may begin with flags."""
    assert train_status(root, output, *options, config=config) == 0


def train_status(root: Path, output: Path, *options: str, config: str = "Demo/icre_r18.yml") -> int:
    """`train`'s exit status, for commands that are refused."""
    flags = [word for word in options if word.startswith("--")]
    pairs = [word for word in options if not word.startswith("--")]
    return train_net.main(
        [
            "--config-file",
            str(CONFIGS / config),
            *flags,
            "DATASETS.ROOT",
            str(root),
            "OUTPUT_DIR",
            str(output),
            *SHORT,
            *pairs,
        ]
    )


@pytest.fixture(scope="session")
def finished_run(demo_root, tmp_path_factory) -> Path:
    """OUTPUT_DIR of ICRE trained for two short epochs; not to be changed."""
    output = tmp_path_factory.mktemp("run")
    train(demo_root, output)
    return output
