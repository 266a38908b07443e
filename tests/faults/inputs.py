"""Broken files of every kind that a run reads: each is read as it is, or refused in one line."""

import itertools
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.io
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from faults.runs import Faults
from icre.config import load_config
from icre.datasets.llcm import LLCM
from icre.datasets.regdb import RegDB
from icre.datasets.sysu import SYSUMM01, read_permutation
from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import read_ids
from icre.runs.checkpoint import SafeCheckpointer
from icre.utils.errors import UserError
from icre.utils.image import find_faults, read_image
from small_trees import render

SETS = {"sysu": (SYSUMM01, {}), "regdb": (RegDB, {"split": 1}), "llcm": (LLCM, {})}


def broken(whole: bytes) -> st.SearchStrategy[bytes]:
    """A file that is cut off, has wrong bytes, has something in its middle, or is another."""
    place = st.integers(0, len(whole))
    wrong = st.lists(
        st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), min_size=1, max_size=8
    )
    return st.one_of(
        place.map(lambda at: whole[:at]),
        wrong.map(lambda changes: _changed(whole, changes)),
        st.tuples(place, st.binary(min_size=1, max_size=64)).map(
            lambda cut: whole[: cut[0]] + cut[1] + whole[cut[0] :]
        ),
        st.tuples(place, st.binary(max_size=256)).map(lambda cut: whole[: cut[0]] + cut[1]),
        st.binary(max_size=512),
    )


def broken_text(whole: str) -> st.SearchStrategy[bytes]:
    """As `broken`, and with lines of text that are lost, doubled or foreign."""
    lines = whole.splitlines()
    foreign = st.one_of(
        st.text(max_size=30), st.sampled_from([*lines, "", ",", "0", "-1", "9" * 30, "1 2 3"])
    )
    edited = st.lists(foreign, max_size=len(lines) + 2).map("\n".join)
    return st.one_of(broken(whole.encode()), edited.map(lambda text: text.encode(errors="replace")))


def _changed(whole: bytes, changes: list[tuple[int, int]]) -> bytes:
    result = bytearray(whole)
    for at, byte in changes:
        result[at] = byte
    return bytes(result)


def break_files(folder: Path, least: int, faults: Faults) -> int:
    """Try at least that many broken files; returns how many."""
    folder.mkdir(parents=True)
    with warnings.catch_warnings(), _quiet("fastreid"):
        warnings.simplefilter("ignore")  # Pillow's and NumPy's, of what is broken on purpose
        return _break_files(folder, least, faults)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """A logger of errors only."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _break_files(folder: Path, least: int, faults: Faults) -> int:
    kinds = [
        *_images(folder),
        *_checkpoints(folder),
        *_lists(folder),
        *_features(folder),
        *_configs(folder),
    ]
    each, tried = -(-least // len(kinds)), 0
    for name, path, strategy, read in kinds:
        whole = path.read_bytes()
        done, fault = _try(path, strategy, read, each)
        path.write_bytes(whole)
        faults.check(fault is None, f"{name}: {type(fault).__name__}: {fault}")
        tried += done
        print(f"inputs: {done} {name}", flush=True)
    return tried


def _try(
    path: Path, contents: st.SearchStrategy[bytes], read: Callable[[Path], object], most: int
) -> tuple[int, BaseException | None]:
    """Read the file with each content; returns how many were read, and an unexpected error."""
    count = itertools.count()

    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(contents)
    def one(content: bytes) -> None:
        next(count)
        path.write_bytes(content)
        try:
            read(path)
        except UserError as error:
            assert str(error) and "\n" not in str(error), f"not one line: {error!r}"

    try:
        one()
    except BaseException as error:
        return next(count), error
    return next(count), None


Kind = tuple[str, Path, st.SearchStrategy[bytes], Callable[[Path], object]]


def _images(folder: Path) -> list[Kind]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 12, 3), dtype=np.uint8)
    kinds = []
    for suffix in ("jpg", "png", "bmp", "tiff", "palette.png", "16bit.png"):
        image = Image.fromarray(pixels)
        if suffix.startswith("palette"):
            image = image.quantize(16)
        if suffix.startswith("16bit"):
            image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 256)
        path = folder / f"image.{suffix}"
        image.save(path)
        kinds.append((f"images ({suffix})", path, broken(path.read_bytes()), _read_image))
    return kinds


def _read_image(path: Path) -> None:
    list(find_faults([str(path)], progress=False))
    image = read_image(str(path))
    assert image.mode == "RGB" and np.asarray(image).dtype == np.uint8


def _checkpoints(folder: Path) -> list[Kind]:
    model = torch.nn.Linear(3, 2)
    SafeCheckpointer(model, str(folder)).save("model_last", epoch=0, iteration=5)
    path = folder / "model_last.pth"
    whole = {name: value.clone() for name, value in model.state_dict().items()}

    def read(path: Path) -> None:
        fresh = torch.nn.Linear(3, 2)
        SafeCheckpointer(fresh, str(folder)).resume_or_load("", resume=True)
        loaded = fresh.state_dict()
        assert all(torch.equal(loaded[name], whole[name]) for name in whole), "other weights"

    return [("checkpoints", path, broken(path.read_bytes()), read)]


def _lists(folder: Path) -> list[Kind]:
    kinds = []
    for layout, (kind, options) in SETS.items():
        root = folder / layout
        place = render(root, layout)

        def read(path: Path, kind=kind, options=options, root=root) -> None:
            data = kind(root=str(root), **options)
            assert data.train and data.query and data.gallery

        for path in sorted(place.rglob("*.txt")):
            if layout == "regdb" and not path.stem.endswith("_1"):
                continue
            text = broken_text(path.read_text())
            kinds.append((f"list files ({layout}, {path.name})", path, text, read))
    return kinds


def _features(folder: Path) -> list[Kind]:
    rng = np.random.default_rng(0)
    paths = [f"cam{camera}/{pid:04d}/0001.jpg" for camera in range(1, 7) for pid in (1, 2)]
    camids = [int(path[3]) for path in paths]
    npz = folder / "features.npz"
    FeatureSet(
        rng.normal(size=(12, 4)).astype(np.float32),
        [int(path[5:9]) for path in paths],
        camids,
        [int(camera in (3, 6)) for camera in camids],
        paths,
    ).save(npz)
    dump = folder / "dump"
    dump.mkdir()
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = rng.normal(size=(2, 4)), rng.normal(size=(1, 4))
    for camera in range(1, 7):
        scipy.io.savemat(dump / f"model_cam{camera}.mat", {"feature": cells})
    permutations = folder / "rand_perm_cam.mat"
    outer = np.empty((6, 1), dtype=object)
    for camera in range(6):
        inner = np.empty((2, 1), dtype=object)
        inner[0, 0] = inner[1, 0] = np.array([[1, 2], [2, 1]])
        outer[camera, 0] = inner
    scipy.io.savemat(permutations, {"rand_perm_cam": outer})
    ids = folder / "test_id.mat"
    scipy.io.savemat(ids, {"id": np.array([[1, 2]])})
    mat = dump / "model_cam1.mat"
    return [
        ("feature files (npz)", npz, broken(npz.read_bytes()), FeatureSet.load),
        ("feature files (mat)", mat, broken(mat.read_bytes()), lambda path: FeatureSet.load(dump)),
        ("permutations", permutations, broken(permutations.read_bytes()), read_permutation),
        ("identity lists (mat)", ids, broken(ids.read_bytes()), read_ids),
    ]


def _configs(folder: Path) -> list[Kind]:
    path = folder / "config.yml"
    path.write_text(
        "MODEL:\n  BACKBONE:\n    DEPTH: 18x\nSOLVER:\n  MAX_EPOCH: 3\n  STEPS: [1, 2]\n"
    )
    return [("configs", path, broken_text(path.read_text()), lambda path: load_config(str(path)))]
