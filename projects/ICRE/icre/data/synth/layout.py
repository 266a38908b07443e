"""Writes a tree of rendered people in the exact layout of a real data set.

Every image depends only on (seed, identity, camera, frame), so the number of workers never changes
a byte. `demo.json` is written last and says that a tree is finished and of which arguments;
`demo.partial.json` marks one that is not, which the same arguments render anew.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image
from tqdm import tqdm

from icre.modality import INFRARED, VISIBLE

from .camera import CameraSpec, make_camera
from .person import Person, sample_person
from .render import render, sample_moment

RENDERER = 1  # raise it when the same arguments would give other bytes
MARKER, PARTIAL = "demo.json", "demo.partial.json"
SYSU_CAMERAS = tuple(CameraSpec(number, INFRARED if number in (3, 6) else VISIBLE, place)
                     for number, place in ((1, 1), (2, 2), (3, 2), (4, 4), (5, 5), (6, 6)))


class DemoError(Exception):
    """A demo tree cannot be written; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class DemoOptions:
    """What decides the bytes of a demo tree.

    `ids` counts training identities (validation ones included), `test_ids` test identities;
    `train_images` and `test_images` are per identity and camera; `height` and `width` in pixels.
    """

    layout: str = "sysu"
    ids: int = 300
    test_ids: int = 48
    train_images: int = 6
    test_images: int = 10
    height: int = 128
    width: int = 64
    seed: int = 0
    renderer: int = RENDERER

    def __post_init__(self) -> None:
        """Raises DemoError on a value that no tree can have."""
        if self.layout not in LAYOUTS:
            raise DemoError(f"--layout {self.layout}: choose from {', '.join(LAYOUTS)}")
        for name in ("ids", "test_ids", "train_images", "test_images"):
            if getattr(self, name) < 1:
                raise DemoError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.seed < 0:
            raise DemoError(f"seed is {self.seed}: it must not be negative")
        if self.height < 16 or self.width < 8:
            raise DemoError(f"size is {self.height}x{self.width}: it must be at least 16x8")


@dataclass(frozen=True)
class Shot:
    """One image to render: its path below the root, its camera, and the seed words of its moment
    (what happens) and of its sensor (crop of the scene, light, noise)."""

    path: str
    pid: int
    camera: CameraSpec
    moment: tuple[int, ...]
    sensor: tuple[int, ...]


def split_identities(options: DemoOptions) -> dict[str, list[int]]:
    """Ascending identity lists `train`, `val`, `test`, shuffled by the seed over 1..ids + test_ids.

    Validation takes 99 of 395 of the training identities, as in SYSU-MM01.
    """
    total = options.ids + options.test_ids
    order = (np.random.default_rng([options.seed, 5]).permutation(total) + 1).tolist()
    val = round(options.ids * 99 / 395)
    return {"val": sorted(order[:val]), "train": sorted(order[val:options.ids]),
            "test": sorted(order[options.ids:])}


def write_tree(root: Path, options: DemoOptions, workers: int = 0,
               progress: bool = True) -> dict[str, int]:
    """Render the tree below `root` and return the number of images per folder of cameras.

    `workers` processes render (0: one per core). A finished tree of the same options is left alone.
    Raises DemoError where `root` holds anything else.
    """
    if _claim(root, options):
        return json.loads((root / MARKER).read_text())["images"]
    splits = split_identities(options)
    shots, files = LAYOUTS[options.layout](options, splits)
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    _render_all(root, options, shots, workers, progress)
    counts = dict(sorted(Counter(str(Path(shot.path).parents[1]) for shot in shots).items()))
    _write_json(root / MARKER, {"arguments": asdict(options), "images": counts})
    (root / PARTIAL).unlink()
    return counts


def is_finished(root: Path, options: DemoOptions) -> bool:
    """Whether `root` holds the finished tree of exactly these options."""
    marker = root / MARKER
    return marker.is_file() and _arguments(marker) == asdict(options)


def _arguments(marker: Path) -> dict | None:
    try:
        return json.loads(marker.read_text())["arguments"]
    except (ValueError, KeyError, TypeError):
        return None


def _claim(root: Path, options: DemoOptions) -> bool:
    """True: already there. False: ours to write. Raises DemoError where it is somebody else's."""
    if root.exists() and not root.is_dir():
        raise DemoError(f"{root} is a file: choose another --root")
    if is_finished(root, options):
        return True
    partial_marker = root / PARTIAL
    if root.is_dir() and any(root.iterdir()):
        if (root / MARKER).is_file():
            raise DemoError(f"{root} holds a demo of other arguments (see {MARKER} there): remove "
                            "the folder or choose another --root")
        if not partial_marker.is_file() or _arguments(partial_marker) != asdict(options):
            raise DemoError(f"{root} is not empty and not this demo: remove it or choose another "
                            "--root")
    root.mkdir(parents=True, exist_ok=True)
    _write_json(partial_marker, {"arguments": asdict(options)})
    return False


def _write_json(path: Path, content: dict) -> None:
    """Write in one step, so that a killed run leaves no half file under the final name."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1))
    draft.replace(path)


def _render_all(root: Path, options: DemoOptions, shots: list[Shot], workers: int,
                progress: bool) -> None:
    for folder in sorted({str(Path(shot.path).parent) for shot in shots}):
        (root / folder).mkdir(parents=True, exist_ok=True)
    chunks = [shots[i:i + 30] for i in range(0, len(shots), 30)]
    job = partial(_render_chunk, root, options)
    with tqdm(total=len(shots), desc=f"rendering {options.layout}", unit="img",
              disable=not progress) as bar:
        for done in _map(job, chunks, workers):
            bar.update(done)


def _map(job: Callable, chunks: list, workers: int) -> Iterator[int]:
    if workers == 1:
        yield from map(job, chunks)
        return
    with ProcessPoolExecutor(workers or None, mp_context=get_context("spawn")) as pool:
        yield from pool.map(job, chunks)


_person: Callable[[int, int], Person] = lru_cache(maxsize=8)(sample_person)


def _render_chunk(root: Path, options: DemoOptions, shots: list[Shot]) -> int:
    for shot in shots:
        camera = make_camera(options.seed, shot.camera, (options.height, options.width))
        moment = sample_moment(np.random.default_rng([options.seed, 31, *shot.moment]))
        rng = np.random.default_rng([options.seed, 37, *shot.sensor])
        image = Image.fromarray(render(_person(options.seed, shot.pid), camera, moment, rng))
        lossy = {"quality": camera.quality} if shot.path.endswith(".jpg") else {}
        image.save(root / shot.path, **lossy)
    return len(shots)


def _sysu(options: DemoOptions, splits: dict[str, list[int]]) -> tuple[list[Shot], dict[str, bytes]]:
    """SYSU-MM01: cam1..cam6/<id:04d>/<frame:04d>.jpg and exp/ with identity lists and gallery draws.
    """
    test = set(splits["test"])
    shots = [Shot(f"cam{camera.number}/{pid:04d}/{frame:04d}.jpg", pid, camera,
                  (pid, camera.number, frame), (pid, camera.number, frame))
             for pid in range(1, options.ids + options.test_ids + 1)
             for camera in SYSU_CAMERAS
             for frame in range(1, _frames(options, pid in test) + 1)]
    files = {f"exp/{name}_id.txt": (",".join(map(str, ids)) + "\n").encode()
             for name, ids in splits.items()}
    files["exp/rand_perm_cam.mat"] = _rand_perm_cam(options, test)
    return shots, files


def _frames(options: DemoOptions, is_test: bool) -> int:
    return options.test_images if is_test else options.train_images


def _rand_perm_cam(options: DemoOptions, test: set[int], trials: int = 10) -> bytes:
    """The gallery draws in the official file's structure: (6, 1) cells of (ids, 1) cells of
    (trials, images) permutations of 1..images (uint8, as there, up to 255 images)."""
    rng = np.random.default_rng([options.seed, 41])
    total = options.ids + options.test_ids
    cameras = np.empty((len(SYSU_CAMERAS), 1), object)
    for camera in range(len(SYSU_CAMERAS)):
        cells = np.empty((total, 1), object)
        for pid in range(1, total + 1):
            count = _frames(options, pid in test)
            kind = np.uint8 if count < 256 else np.uint16
            draws = [rng.permutation(count) + 1 for _ in range(trials)]
            cells[pid - 1, 0] = np.array(draws, kind)
        cameras[camera, 0] = cells
    return _mat_bytes(rand_perm_cam=cameras)


def _mat_bytes(**variables: np.ndarray) -> bytes:
    """A MATLAB v5 file; its header, which holds the time of writing, is made constant."""
    from io import BytesIO
    buffer = BytesIO()
    scipy.io.savemat(buffer, variables)
    return b"MATLAB 5.0 MAT-file, rendered demo data".ljust(116) + buffer.getvalue()[116:]


LAYOUTS: dict[str, Callable[[DemoOptions, dict], tuple[list[Shot], dict[str, bytes]]]] = {
    "sysu": _sysu,
}
