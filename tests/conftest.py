"""Shared by all tests: a tiny rendered SYSU-MM01 tree, and short runs of the real command.

torch and fast-reid are imported inside of functions: the process that only hands out tests to
others (pytest -n) then starts at once.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

# Tiny tensors: threads only get in each other's way. Read by torch and by child processes.
os.environ["OMP_NUM_THREADS"] = "1"

CONFIGS = Path(__file__).parents[1] / "configs"


def words(text: str) -> tuple[str, ...]:
    """KEY VALUE pairs of a command line."""
    return tuple(text.split())


# 2 epochs of 10 steps: 4 identities x (2 visible + 2 infrared) images of 32 x 16
SHORT = words(
    "INPUT.SIZE_TRAIN [32,16] INPUT.SIZE_TEST [32,16] DATALOADER.NUM_INSTANCE 2 "
    "SOLVER.IMS_PER_BATCH 16 SOLVER.MAX_EPOCH 2 DATALOADER.NUM_WORKERS 0"
)


def pytest_configure(config: pytest.Config) -> None:
    """All tests mean the CPU, but those marked `gpu`, which run by themselves (`make gpu`)."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if item.config.getoption("markexpr") != "gpu":
        pytest.skip("tests of a GPU run by themselves: make gpu")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")


def pytest_collectstart() -> None:
    """fast-reid, which tests import, needs this first; not called where tests are handed out."""
    import icre.compat.evaluation  # noqa: F401


@pytest.fixture(autouse=True, scope="session")
def one_thread_and_no_pictures():
    """The ranking picture takes longer than a small training; see the fixture `pictures`."""
    import torch

    from small_runs import skip_pictures

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        skip_pictures(patch)
        yield


@pytest.fixture
def pictures(monkeypatch) -> None:
    """Trainings of this test draw ranking.png."""
    from small_runs import draw_pictures

    draw_pictures(monkeypatch)


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory) -> Path:
    """A folder that all processes of this session share (pytest -n)."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(folder: Path, make: Callable[[Path], object]) -> Path:
    """`folder`, which the first process that wants it has made by `make(folder)`."""
    from filelock import FileLock

    with FileLock(f"{folder}.lock"):
        done = Path(f"{folder}.done")
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def demo_root(session_folder) -> Path:
    """DATASETS.ROOT with a tiny SYSU-MM01 tree in it; not to be changed."""
    return made_once(session_folder / "demo", render_demo)


def render_demo(root: Path) -> None:
    """SYSU-MM01 below `root`: ten training and four test identities."""
    from synthvi.layout import DemoOptions
    from synthvi.writer import write_tree

    options = DemoOptions(
        ids=10, test_ids=4, train_images=2, test_images=3, height=32, width=16, seed=3
    )
    write_tree(root / "SYSU-MM01", options, workers=1, progress=False)


@pytest.fixture(scope="session")
def small_trees(session_folder) -> dict[str, Path]:
    """Layout -> a data set of a few images in one common root; not to be changed."""
    from small_trees import FOLDERS, render

    def make(root: Path) -> None:
        for layout in FOLDERS:
            render(root, layout)

    root = made_once(session_folder / "trees", make)
    return {layout: root / name for layout, name in FOLDERS.items()}


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
    from icre.commands import train as command

    return command.main(train_arguments(root, output, *options, config=config))


def train_arguments(root: Path, output: Path, *options: str, config: str) -> list[str]:
    """Arguments of tools/train_net.py for a short run."""
    flags = [word for word in options if word.startswith("--")]
    pairs = [word for word in options if not word.startswith("--")]
    data = ["DATASETS.ROOT", str(root), "OUTPUT_DIR", str(output)]
    return ["--config-file", str(CONFIGS / config), *flags, *data, *SHORT, *pairs]


@pytest.fixture(scope="session")
def finished_run(demo_root, session_folder) -> Path:
    """OUTPUT_DIR of a narrow ICRE after two short epochs, with pictures; not to be changed."""
    from small_model import NARROW
    from small_runs import draw_pictures

    options = (*map(str, NARROW), "MODEL.MPFR.DIM", "32")
    with pytest.MonkeyPatch.context() as patch:
        draw_pictures(patch)
        return made_once(session_folder / "run", lambda output: train(demo_root, output, *options))
