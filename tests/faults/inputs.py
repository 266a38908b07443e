"""Hostile files of every kind that is read: each is read as it is, or refused in one line.

Of each kind: files that are cut off or changed anywhere, files of every other kind under its name,
and what is no file (folders, pipes, devices, sockets, links to themselves). Reading must end within
seconds and without gigabytes.
"""

import csv
import json
import logging
import os
import resource
import shutil
import signal
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import scipy.io
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from fastreid.modeling.backbones import build_backbone

from conftest import CONFIGS
from faults.runs import Faults
from icre.config import load_config
from icre.datasets.llcm import LLCM
from icre.datasets.regdb import RegDB
from icre.datasets.sysu import SYSUMM01, read_permutation
from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import read_ids
from icre.experiments.ablation.spec import read_spec
from icre.export.formats import ExportedModel
from icre.gallery.images import collect
from icre.gallery.manifest import CHECKSUM, MANIFEST, add_checksum
from icre.gallery.store import ModelInfo, open_gallery
from icre.gallery.verify import verify
from icre.gallery.writing import write
from icre.inference.results import read_records, read_scalars
from icre.inference.run import Run
from icre.modeling.pretrained import load_pretrained
from icre.runs.checkpoint import SafeCheckpointer, resumable
from icre.utils.errors import UserError
from icre.utils.image import find_faults, read_image
from small_galleries import change, old_gallery
from small_model import NARROW, small_cfg
from small_trees import render

SUFFIXES = ("jpg", "png", "bmp", "tiff", "webp", "ppm", "palette.png", "16bit.png", "float.tiff")
LONGEST = 20  # seconds for one file
MEMORY = 1 << 20  # KiB that a reader may take, all files of its kind together
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


def break_files(prepared: Path, folder: Path, least: int, faults: Faults) -> int:
    """Try at least that many hostile files over all readers; returns how many."""
    folder.mkdir(parents=True)
    with warnings.catch_warnings(), _quiet("fastreid"):
        warnings.simplefilter("ignore")  # Pillow's and NumPy's, of what is broken on purpose
        kinds = [kind for make in MAKERS for kind in make(folder, prepared)]
        each, tried = -(-least // len(kinds)), 0
        whole = {kind.name: kind.path.read_bytes() for kind in kinds}
        for kind in kinds:
            foreign = [data for name, data in whole.items() if name != kind.name]
            done, lost = _in_child(lambda kind=kind, foreign=foreign: _try(kind, each, foreign))
            faults.check(not lost, f"{kind.name}: {lost}")
            tried += done
            print(f"inputs: {done} {kind.name}", flush=True)
    return tried


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


def _in_child(act: Callable[[], Iterator[str]]) -> tuple[int, str]:
    """Run in a fork: how many inputs it read, and how the first unexpected one was taken.

    A fork, as a reader that crashes, hangs or eats all memory must not take the suite with it.
    """
    reader, writer = os.pipe()
    if not (pid := os.fork()):
        with open(writer, "w") as out:
            for said in act():
                print(said, file=out, flush=True)
        os._exit(0)
    os.close(writer)
    with open(reader) as lines:
        said = lines.read().splitlines()
    _, status = os.waitpid(pid, 0)
    lost = [line for line in said if line]
    if status:
        lost.append(f"the process ended with {os.waitstatus_to_exitcode(status)}")
    return len(said), "; ".join(lost[:3])


def _try(kind: "Kind", most: int, foreign: list[bytes]) -> Iterator[str]:
    """Read the file in each of its shapes; yields what is wrong, "" for what is as it should be."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, _hangs)
    contents: list[bytes] = []

    @settings(
        max_examples=most,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(kind.contents)
    def collect(content: bytes) -> None:
        contents.append(content)

    collect()
    files = [(lambda data=data: _place(kind.path, data)) for data in (*foreign, *contents)]
    shapes = [*_nodes(kind.path), *files]
    for number, make in enumerate(shapes):
        _clear(kind.path)
        make()
        signal.alarm(LONGEST)
        try:
            kind.read(kind.path)
            yield ""
        except UserError as error:
            yield "" if str(error) and "\n" not in str(error) else f"not one line: {error!r}"
        except BaseException as error:
            yield f"input {number}: {type(error).__name__}: {error}".replace("\n", " ")
        finally:
            signal.alarm(0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    if grown > MEMORY:
        yield f"took {grown >> 10} MiB"


def _hangs(*args: object) -> None:
    raise TimeoutError(f"not read within {LONGEST} s")


def _place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    path.unlink(missing_ok=True)


def _nodes(path: Path) -> list[Callable[[], None]]:
    """What stands where a file belongs and is none, or has no content."""
    return [
        lambda: None,  # nothing at all
        lambda: _place(path, b""),
        lambda: _place(path, bytes(1 << 20)),
        lambda: _place(path, b"\xff" * 4096),
        path.mkdir,
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(path.name),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.symlink_to("/dev/tty"),
        lambda: path.symlink_to("no such file"),
        lambda: _socket(path),
    ]


def _socket(path: Path) -> None:
    place = os.getcwd()
    os.chdir(path.parent)  # names of sockets have at most 107 bytes
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(place)


class Kind(NamedTuple):
    """A file that is read."""

    name: str
    path: Path
    contents: st.SearchStrategy[bytes]
    read: Callable[[Path], object]


def _images(folder: Path, prepared: Path) -> list[Kind]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 12, 3), dtype=np.uint8)
    kinds = []
    for suffix in SUFFIXES:
        image = Image.fromarray(pixels)
        if suffix.startswith("palette"):
            image = image.quantize(16)
        if suffix.startswith("16bit"):
            image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 256)
        if suffix.startswith("float"):
            image = Image.fromarray(pixels[:, :, 0].astype(np.float32) / 255)
        path = folder / f"image.{suffix}"
        image.save(path)
        kinds.append(Kind(f"images ({suffix})", path, broken(path.read_bytes()), _read_image))
    return kinds


def _read_image(path: Path) -> None:
    list(find_faults([str(path)], progress=False))
    image = read_image(str(path))
    assert image.mode == "RGB" and np.asarray(image).dtype == np.uint8


def _checkpoints(folder: Path, prepared: Path) -> list[Kind]:
    model = torch.nn.Linear(3, 2)
    SafeCheckpointer(model, str(folder)).save("model_last", epoch=0, iteration=5)
    path = folder / "model_last.pth"
    whole = {name: value.clone() for name, value in model.state_dict().items()}

    def read(path: Path) -> None:
        if not os.path.lexists(path):
            return  # a folder without a checkpoint is begun anew
        fresh = torch.nn.Linear(3, 2)
        SafeCheckpointer(fresh, str(folder)).resume_or_load("", resume=True)
        loaded = fresh.state_dict()
        assert all(torch.equal(loaded[name], whole[name]) for name in whole), "other weights"

    backbone = build_backbone(small_cfg(*NARROW))
    pretrained = folder / "pretrained.pth"
    torch.save(backbone.state_dict(), pretrained)
    safe = folder / "pretrained.safetensors"
    save_file(backbone.state_dict(), safe)
    return [
        Kind("checkpoints", path, broken(path.read_bytes()), read),
        Kind(
            "pretrained weights",
            pretrained,
            broken(pretrained.read_bytes()),
            lambda path: load_pretrained(backbone, path),
        ),
        Kind(
            "pretrained weights (safetensors)",
            safe,
            broken(safe.read_bytes()),
            lambda path: load_pretrained(backbone, path),
        ),
    ]


def _lists(folder: Path, prepared: Path) -> list[Kind]:
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
            kinds.append(Kind(f"list files ({layout}, {path.name})", path, text, read))
    return kinds


def _features(folder: Path, prepared: Path) -> list[Kind]:
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
    dump73 = folder / "dump73"
    shutil.copytree(dump, dump73)
    with h5py.File(dump73 / "model_cam1.mat", "w", userblock_size=512) as file:
        cells = [file.create_dataset(f"#refs#/{n}", data=np.ones((4, 2))) for n in range(2)]
        variable = file.create_dataset("feature", (2, 1), dtype=h5py.ref_dtype)
        for place, cell in enumerate(cells):
            variable[place, 0] = cell.ref
    mat, mat73 = dump / "model_cam1.mat", dump73 / "model_cam1.mat"
    return [
        Kind("feature files (npz)", npz, broken(npz.read_bytes()), FeatureSet.load),
        Kind("feature files (mat)", mat, broken(mat.read_bytes()), lambda _: FeatureSet.load(dump)),
        Kind(
            "feature files (mat v7.3)",
            mat73,
            broken(mat73.read_bytes()),
            lambda _: FeatureSet.load(dump73),
        ),
        Kind("permutations", permutations, broken(permutations.read_bytes()), read_permutation),
        Kind("identity lists (mat)", ids, broken(ids.read_bytes()), read_ids),
    ]


def _configs(folder: Path, prepared: Path) -> list[Kind]:
    path = folder / "config.yml"
    path.write_text(
        "MODEL:\n  BACKBONE:\n    DEPTH: 18x\nSOLVER:\n  MAX_EPOCH: 3\n  STEPS: [1, 2]\n"
    )
    spec = folder / "spec.yml"
    config = CONFIGS / "Demo/icre_r18.yml"
    spec.write_text(
        f"config: {config}\nseeds: [0, 1]\nrows:\n  whole: {{}}\n  part:\n    options:\n"
        "      MODEL.SDCE.ENABLED: false\n"
    )
    return [
        Kind("configs", path, broken_text(path.read_text()), lambda path: load_config(str(path))),
        Kind(
            "ablation files",
            spec,
            broken_text(spec.read_text()),
            lambda path: read_spec(path, folder / "ablation"),
        ),
    ]


def _runs(folder: Path, prepared: Path) -> list[Kind]:
    run = folder / "run"
    shutil.copytree(prepared / "run", run)
    readers = {
        "metrics.json": read_records,
        "scalars.json": read_scalars,
        "config.yaml": lambda path: Run(run).settings,
        "last_checkpoint": lambda path: resumable(run),
    }
    return [
        Kind(f"run folders ({name})", run / name, broken_text((run / name).read_text()), read)
        for name, read in readers.items()
    ]


def _galleries(folder: Path, prepared: Path) -> list[Kind]:
    gallery, known = folder / "gallery", open_gallery(prepared / "galleries/gallery")
    shutil.copytree(known.folder, gallery)
    manifest = json.loads((gallery / MANIFEST).read_text())
    graph, old = folder / "graph", folder / "old"
    model = ModelInfo("model.pth", "a" * 64, "MODEL: {}\n")
    write(graph, known.images.table(), [np.asarray(known.features)], model, "hnsw", progress=False)
    old_gallery(old)

    def read_with_valid_checksums(path: Path) -> None:
        """As a stranger sends it: what is inside is wrong, and every checksum is right."""
        folder = next(one for one in (gallery, graph, old) if path.is_relative_to(one))
        if path.is_file() and path.stat().st_mode & 0o400:
            change(folder)
        opened = open_gallery(folder)
        if folder == gallery:  # the graph of a stranger is not searched
            for row in opened.nearest(np.asarray(opened.features[:2]), 5)[0].ravel():
                opened.images.row(row)
            verify(opened)

    segment = gallery / "segments/1-0"
    files = [*segment.iterdir(), graph / "index/1-1.faiss"]
    files += [old / name for name in ("features.npy", "index.faiss")]
    kinds = [
        Kind(
            f"galleries ({path.relative_to(folder)})",
            path,
            broken(path.read_bytes()),
            read_with_valid_checksums,
        )
        for path in files
    ]
    table = old / "images.csv"
    text = broken_text(table.read_text())
    kinds.append(Kind("galleries (images.csv)", table, text, read_with_valid_checksums))
    whole = folder / "gallery with a changed manifest"
    shutil.copytree(gallery, whole)
    kinds.append(
        Kind("galleries (gallery.json)", whole / MANIFEST, _changed_json(manifest), _open_parent)
    )
    image = folder / "image.jpg"
    table, names = folder / "people.csv", folder / "people.txt"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "modality", "camera", "identity"])
        writer.writerows([[image, "visible", 1, 7], [image, "infrared", 3, "person 8"]])
    names.write_text(f"{image}\n{image}\n")
    for path in (table, names):
        text = broken_text(path.read_text())
        kinds.append(Kind(f"tables ({path.suffix})", path, text, lambda path: collect([path])))
    packed = folder / "people.parquet"
    columns = {"path": [str(image)], "modality": ["visible"], "camera": [1], "identity": [7.0]}
    pyarrow.parquet.write_table(pyarrow.table(columns), packed)
    data = broken(packed.read_bytes())
    kinds.append(Kind("tables (.parquet)", packed, data, lambda path: collect([path])))
    return kinds


def _changed_json(value: dict) -> st.SearchStrategy[bytes]:
    """A manifest with one entry of another type, a missing one, or wrong bytes; sealed anew."""
    other = st.sampled_from([None, True, -1, 0, 1.5, "", "..", [], {}, [[]], 10**30, "9" * 5000])
    key = st.sampled_from([key for key in value if key != CHECKSUM])
    changed = st.tuples(key, other).map(lambda pair: add_checksum(value | {pair[0]: pair[1]}))
    missing = key.map(
        lambda name: add_checksum({key: one for key, one in value.items() if key != name})
    )
    encoded = st.one_of(changed, missing).map(lambda one: json.dumps(one).encode())
    return st.one_of(encoded, broken_text(json.dumps(value)))


def _open_parent(path: Path) -> None:
    open_gallery(path.parent)


def _exported(folder: Path, prepared: Path) -> list[Kind]:
    path = folder / "visible.onnx"
    shutil.copy(prepared / "exported/visible.onnx", path)
    return [Kind("exported models", path, broken(path.read_bytes()), ExportedModel)]


MAKERS = (_images, _checkpoints, _lists, _features, _configs, _runs, _galleries, _exported)
