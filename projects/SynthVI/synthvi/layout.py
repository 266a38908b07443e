"""Which images and which lists make up a tree in the exact layout of a real data set.

A layout is a plan: shots to render and small files to write. Every image depends only on the words
of its seed, (seed, identity, camera, frame), never on the order in which it is rendered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
import scipy.io
from .camera import CameraSpec, make_camera
from .levels import LEVELS, Level
from .people import sample_person
from .person import Person, as_thermal
from .render import render, sample_moment

from icre.modality import INFRARED, VISIBLE

RENDERER = 6  # raise it when the same arguments would give other bytes
TRIALS = 10  # gallery draws of SYSU-MM01, splits of RegDB
SYSU_CAMERAS = tuple(
    CameraSpec(number, INFRARED if number in (3, 6) else VISIBLE, place)
    for number, place in ((1, 1), (2, 2), (3, 2), (4, 4), (5, 5), (6, 6))
)
REGDB_CAMERAS = {
    "Visible": CameraSpec(1, VISIBLE, 1),
    "Thermal": CameraSpec(2, INFRARED, 1, thermal=True),
}
LLCM_FOLDERS = {"vis": VISIBLE, "nir": INFRARED}
LLCM_CAMERAS = range(1, 10)


class DemoError(Exception):
    """Demo data cannot be made; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class DemoOptions:
    """What decides the bytes of a demo tree.

    `ids` counts training identities (validation ones included), `test_ids` test identities;
    `train_images` and `test_images` are per identity and camera; `height` and `width` in pixels;
    `difficulty` is a key of levels.LEVELS.
    """

    layout: str = "sysu"
    ids: int = 300
    test_ids: int = 48
    train_images: int = 6
    test_images: int = 10
    height: int = 128
    width: int = 64
    seed: int = 0
    difficulty: str = "easy"
    renderer: int = RENDERER

    def __post_init__(self) -> None:
        """Raises DemoError on a value that no tree can have."""
        if self.layout not in LAYOUTS:
            raise DemoError(f"layout {self.layout}: choose from {', '.join(LAYOUTS)}")
        if self.difficulty not in LEVELS:
            raise DemoError(f"difficulty {self.difficulty}: choose from {', '.join(LEVELS)}")
        for name in ("ids", "test_ids", "train_images", "test_images"):
            if not 1 <= getattr(self, name) <= 9999:
                raise DemoError(f"{name} is {getattr(self, name)}: it must be 1 to 9999")
        if self.ids + self.test_ids > 9999:
            raise DemoError(f"{self.ids + self.test_ids} identities: four digits name at most 9999")
        if self.seed < 0:
            raise DemoError(f"seed is {self.seed}: it must not be negative")
        if self.height < 16 or self.width < 8:
            raise DemoError(f"size is {self.height}x{self.width}: it must be at least 16x8")


@dataclass(frozen=True)
class Shot:
    """One image to render: its path below the root, who, which camera, and the seed words of its
    `moment` (what happens) and `sensor` (crop of the scene, light, noise)."""

    path: str
    pid: int
    camera: CameraSpec
    moment: tuple[int, ...]
    sensor: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """All of a tree: `shots` to render, and `files`, path below the root -> content."""

    shots: list[Shot]
    files: dict[str, bytes]


def plan(options: DemoOptions) -> Plan:
    """The tree that `options` ask for."""
    return LAYOUTS[options.layout](options)


def render_shot(options: DemoOptions, shot: Shot) -> tuple[np.ndarray, int]:
    """Image (height, width, 3) uint8 of a shot, and its camera's JPEG quality."""
    camera = make_camera(options.seed, shot.camera, (options.height, options.width))
    level = LEVELS[options.difficulty]
    moment = sample_moment(np.random.default_rng([options.seed, 31, *shot.moment]), level)
    sensor = np.random.default_rng([options.seed, 37, *shot.sensor])
    person = _person(options.seed, shot.pid, shot.camera.thermal, level)
    return render(person, camera, moment, level, sensor), camera.quality


@lru_cache(maxsize=8)
def _person(seed: int, pid: int, thermal: bool, level: Level) -> Person:
    person = sample_person(seed, pid, level)
    return as_thermal(person) if thermal else person


def split_identities(options: DemoOptions, draw: int = 0) -> dict[str, list[int]]:
    """Ascending identity lists `train`, `val`, `test`, shuffled by the seed over 1..ids + test_ids.

    Families are shuffled as a whole, so that a test identity meets its look-alikes in the test.
    Validation takes 99 of 395 of the training identities, as in SYSU-MM01. Each `draw` is another
    shuffle.
    """
    total, size = options.ids + options.test_ids, LEVELS[options.difficulty].family
    families = np.random.default_rng([options.seed, 5, draw]).permutation(-(-total // size))
    order = [
        pid
        for family in families.tolist()
        for pid in range(size * family + 1, min(size * (family + 1), total) + 1)
    ]
    val = round(options.ids * 99 / 395)
    return {
        "val": sorted(order[:val]),
        "train": sorted(order[val : options.ids]),
        "test": sorted(order[options.ids :]),
    }


def _frames(options: DemoOptions, is_test: bool) -> range:
    return range(1, (options.test_images if is_test else options.train_images) + 1)


def _comma(ids: list[int]) -> bytes:
    return (",".join(map(str, ids)) + "\n").encode()


def _lines(shots: list[Shot], label: dict[int, int]) -> bytes:
    return "".join(f"{s.path} {label[s.pid]}\n" for s in shots if s.pid in label).encode()


def _sysu(options: DemoOptions) -> Plan:
    """SYSU-MM01: cam1..cam6/<id:04d>/<frame:04d>.jpg, and exp/ with identity lists and draws."""
    splits = split_identities(options)
    test = set(splits["test"])
    shots = [
        Shot(f"cam{camera.number}/{pid:04d}/{frame:04d}.jpg", pid, camera, words, words)
        for pid in range(1, options.ids + options.test_ids + 1)
        for camera in SYSU_CAMERAS
        for frame in _frames(options, pid in test)
        for words in [(pid, camera.number, frame)]
    ]
    files = {f"exp/{name}_id.txt": _comma(ids) for name, ids in splits.items()}
    files["exp/rand_perm_cam.mat"] = _rand_perm_cam(options, test)
    return Plan(shots, files)


def _rand_perm_cam(options: DemoOptions, test: set[int]) -> bytes:
    """The gallery draws in the official file's structure: (6, 1) cells of (ids, 1) cells of
    (trials, images) permutations of 1..images; uint8 as there, wider for more than 255 images."""
    rng = np.random.default_rng([options.seed, 41])
    total = options.ids + options.test_ids
    cameras = np.empty((len(SYSU_CAMERAS), 1), object)
    for camera in range(len(SYSU_CAMERAS)):
        cells = np.empty((total, 1), object)
        for pid in range(1, total + 1):
            count = len(_frames(options, pid in test))
            draws = [rng.permutation(count) + 1 for _ in range(TRIALS)]
            cells[pid - 1, 0] = np.array(draws, np.min_scalar_type(count))
        cameras[camera, 0] = cells
    return _mat_bytes(rand_perm_cam=cameras)


def _mat_bytes(**variables: np.ndarray) -> bytes:
    """A MATLAB v5 file; its header, which would tell the time of writing, is made constant."""
    buffer = BytesIO()
    scipy.io.savemat(buffer, variables)
    return b"MATLAB 5.0 MAT-file, rendered demo data".ljust(116) + buffer.getvalue()[116:]


def _regdb(options: DemoOptions) -> Plan:
    """RegDB: {Visible,Thermal}/<id>/*.bmp, taken at the same moments, and ten random splits.

    Every identity has `test_images` images per modality, for it is tested in some split. Labels
    count from 0 within each list, as in the release.
    """
    total = options.ids + options.test_ids
    shots = [
        Shot(
            f"{folder}/{pid}/person_{folder[0].lower()}_{frame:05d}_{pid}.bmp",
            pid,
            camera,
            (pid, 0, frame),
            (pid, camera.number, frame),
        )
        for folder, camera in REGDB_CAMERAS.items()
        for pid in range(1, total + 1)
        for frame in _frames(options, True)
    ]
    files = {}
    for split in range(1, TRIALS + 1):
        ids = split_identities(options, draw=split)
        for name, members in (("train", ids["train"] + ids["val"]), ("test", ids["test"])):
            label = {pid: number for number, pid in enumerate(sorted(members))}
            for folder in REGDB_CAMERAS:
                chosen = [shot for shot in shots if shot.path.startswith(folder)]
                files[f"idx/{name}_{folder.lower()}_{split}.txt"] = _lines(chosen, label)
    return Plan(shots, files)


def _llcm(options: DemoOptions) -> Plan:
    """LLCM: nine cameras, each by day and by infrared; test_nir/cam3 is missing, as released."""
    splits = split_identities(options)
    train = sorted(splits["train"] + splits["val"])
    shots, files = [], {"idx/test_id.txt": _comma(splits["test"])}
    for folder, modality in LLCM_FOLDERS.items():
        learn = [
            _llcm_shot(folder, modality, pid, camera, frame, False)
            for pid in train
            for camera in LLCM_CAMERAS
            for frame in _frames(options, False)
        ]
        label = {pid: number for number, pid in enumerate(train)}
        files[f"idx/train_{folder}.txt"] = _lines(learn, label)
        shots += learn
        shots += [
            _llcm_shot(folder, modality, pid, camera, frame, True)
            for camera in LLCM_CAMERAS
            if (folder, camera) != ("nir", 3)
            for pid in splits["test"]
            for frame in _frames(options, True)
        ]
    return Plan(shots, files)


def _llcm_shot(
    folder: str, modality: int, pid: int, camera: int, frame: int, is_test: bool
) -> Shot:
    second = (pid * 7919 + camera * 3571 + frame * 97) % 240000
    name = f"{pid:04d}_c{camera:02d}_s{second:06d}_f{frame:04d}_{folder}.jpg"
    folder_of = f"test_{folder}/cam{camera}" if is_test else folder
    words = (pid, camera, frame, modality)
    spec = CameraSpec(camera, modality, place=camera)
    return Shot(f"{folder_of}/{pid:04d}/{name}", pid, spec, words, words)


LAYOUTS: dict[str, Callable[[DemoOptions], Plan]] = {"sysu": _sysu, "regdb": _regdb, "llcm": _llcm}
