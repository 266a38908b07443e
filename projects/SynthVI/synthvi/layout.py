"""Which images and lists make up a tree in the exact folder layout of a real data set.

A layout is a function from options to a plan: the images to render and the small files to write.
Every image depends on its own seed only, (seed, identity, camera, frame), and never on the order of
rendering.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
import scipy.io

from synthvi.camera import CameraSpec, make_camera
from synthvi.identities import sample_person
from synthvi.levels import LEVELS, Level
from synthvi.modality import INFRARED, VISIBLE
from synthvi.person import Person, as_thermal
from synthvi.render import render, sample_moment

RENDERER = 6  # version of the renderer: raise it when the same options give other bytes
TRIALS = 10  # gallery samplings of SYSU-MM01, splits of RegDB
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
MARKET_CAMERAS = range(1, 7)
MARKET_IDS = 1501  # fast-reid's Market1501 refuses a higher one


class DemoError(Exception):
    """Invalid options or an unusable folder; the message is one line with what to do."""


@dataclass(frozen=True)
class DemoOptions:
    """All that decides the bytes of a tree.

    Attributes:
        layout: key of LAYOUTS.
        ids: number of training identities, those for validation included.
        test_ids: number of test identities.
        train_images: images of a training identity in each camera.
        test_images: images of a test identity in each camera.
        height: image height in pixels.
        width: image width in pixels.
        seed: of the world: people, places, cameras and everything that happens.
        difficulty: key of levels.LEVELS.
        renderer: version of the renderer.

    Raises:
        DemoError: a value is outside its range.
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
        if self.layout not in LAYOUTS:
            raise DemoError(f"layout {self.layout}: choose from {', '.join(LAYOUTS)}")
        if self.difficulty not in LEVELS:
            raise DemoError(f"difficulty {self.difficulty}: choose from {', '.join(LEVELS)}")
        for name in ("ids", "test_ids", "train_images", "test_images"):
            if not 1 <= getattr(self, name) <= 9999:
                raise DemoError(f"{name} is {getattr(self, name)}: it must be 1 to 9999")
        if self.ids + self.test_ids > 9999:
            raise DemoError(f"{self.ids + self.test_ids} identities: four digits name at most 9999")
        if self.layout == "market1501" and self.ids + self.test_ids > MARKET_IDS:
            raise DemoError(
                f"{self.ids + self.test_ids} identities: Market-1501 has at most {MARKET_IDS}"
            )
        if self.seed < 0:
            raise DemoError(f"seed is {self.seed}: it must not be negative")
        if self.height < 16 or self.width < 8:
            raise DemoError(f"size is {self.height}x{self.width}: it must be at least 16x8")


@dataclass(frozen=True)
class Shot:
    """One image to render.

    Attributes:
        path: below the root of the tree.
        pid: identity.
        camera: which camera takes it.
        moment_seed: seeds pose, direction and box; equal for images taken at the same moment.
        sensor_seed: seeds the crop of the background, light and noise.
    """

    path: str
    pid: int
    camera: CameraSpec
    moment_seed: tuple[int, ...]
    sensor_seed: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Content of a tree: `shots` to render and `files`, path below the root -> content."""

    shots: list[Shot]
    files: dict[str, bytes]


def plan(options: DemoOptions) -> Plan:
    """All images and files of a tree; nothing is rendered."""
    return LAYOUTS[options.layout](options)


def render_shot(options: DemoOptions, shot: Shot) -> tuple[np.ndarray, int]:
    """Render an image (height, width, 3) uint8; returns it and its camera's JPEG quality."""
    camera = make_camera(options.seed, shot.camera, (options.height, options.width))
    level = LEVELS[options.difficulty]
    moment = sample_moment(np.random.default_rng([options.seed, 31, *shot.moment_seed]), level)
    sensor_rng = np.random.default_rng([options.seed, 37, *shot.sensor_seed])
    person = _person(options.seed, shot.pid, shot.camera.thermal, level)
    return render(person, camera, moment, level, sensor_rng), camera.jpeg_quality


@lru_cache(maxsize=8)
def _person(seed: int, pid: int, thermal: bool, level: Level) -> Person:
    person = sample_person(seed, pid, level)
    return as_thermal(person) if thermal else person


def split_identities(options: DemoOptions, split: int = 0) -> dict[str, list[int]]:
    """Split the identities 1..ids + test_ids into sorted lists `train`, `val` and `test`.

    Families are shuffled as a whole, so that a test identity meets its look-alikes in the test set.
    99 of 395 training identities are for validation, as in SYSU-MM01. Each number `split` gives
    another shuffle.
    """
    total, size = options.ids + options.test_ids, LEVELS[options.difficulty].family
    families = np.random.default_rng([options.seed, 5, split]).permutation(-(-total // size))
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


def _id_list(ids: list[int]) -> bytes:
    return (",".join(map(str, ids)) + "\n").encode()


def _label_lines(shots: list[Shot], labels: dict[int, int]) -> bytes:
    """Lines "<path> <label>" of the shots whose identity has a label."""
    return "".join(f"{s.path} {labels[s.pid]}\n" for s in shots if s.pid in labels).encode()


def _sysu(options: DemoOptions) -> Plan:
    """SYSU-MM01: cam1..cam6/<id>/<frame>.jpg, exp/{train,val,test}_id.txt, the gallery file."""
    splits = split_identities(options)
    test = set(splits["test"])
    shots = []
    for pid in range(1, options.ids + options.test_ids + 1):
        for camera in SYSU_CAMERAS:
            for frame in _frames(options, pid in test):
                path = f"cam{camera.number}/{pid:04d}/{frame:04d}.jpg"
                seed = (pid, camera.number, frame)
                shots.append(Shot(path, pid, camera, seed, seed))
    files = {f"exp/{name}_id.txt": _id_list(ids) for name, ids in splits.items()}
    files["exp/rand_perm_cam.mat"] = _rand_perm_cam(options, test)
    return Plan(shots, files)


def _rand_perm_cam(options: DemoOptions, test: set[int]) -> bytes:
    """The gallery samplings in the structure of SYSU-MM01's file.

    (6, 1) cells, one per camera, of (ids, 1) cells of (trials, images) permutations of 1..images;
    uint8 as in the release, wider for more than 255 images.
    """
    rng = np.random.default_rng([options.seed, 41])
    total = options.ids + options.test_ids
    cameras = np.empty((len(SYSU_CAMERAS), 1), object)
    for camera in range(len(SYSU_CAMERAS)):
        cells = np.empty((total, 1), object)
        for pid in range(1, total + 1):
            count = len(_frames(options, pid in test))
            trials = [rng.permutation(count) + 1 for _ in range(TRIALS)]
            cells[pid - 1, 0] = np.array(trials, np.min_scalar_type(count))
        cameras[camera, 0] = cells
    return _mat_bytes(rand_perm_cam=cameras)


def _mat_bytes(**variables: np.ndarray) -> bytes:
    """A MATLAB v5 file with a constant header, which otherwise holds the time of writing."""
    buffer = BytesIO()
    scipy.io.savemat(buffer, variables)
    return b"MATLAB 5.0 MAT-file, rendered demo data".ljust(116) + buffer.getvalue()[116:]


def _regdb(options: DemoOptions) -> Plan:
    """RegDB: {Visible,Thermal}/<id>/*.bmp, taken at the same moments, and ten random splits.

    Every identity has `test_images` images per modality, because it is tested in some split. Labels
    count from 0 within each list, as in the release.
    """
    shots = [
        Shot(
            f"{folder}/{pid}/person_{folder[0].lower()}_{frame:05d}_{pid}.bmp",
            pid,
            camera,
            moment_seed=(pid, 0, frame),
            sensor_seed=(pid, camera.number, frame),
        )
        for folder, camera in REGDB_CAMERAS.items()
        for pid in range(1, options.ids + options.test_ids + 1)
        for frame in _frames(options, True)
    ]
    files = {}
    for split in range(1, TRIALS + 1):
        ids = split_identities(options, split)
        for name, members in (("train", ids["train"] + ids["val"]), ("test", ids["test"])):
            labels = {pid: label for label, pid in enumerate(sorted(members))}
            for folder in REGDB_CAMERAS:
                chosen = [shot for shot in shots if shot.path.startswith(folder)]
                files[f"idx/{name}_{folder.lower()}_{split}.txt"] = _label_lines(chosen, labels)
    return Plan(shots, files)


def _llcm(options: DemoOptions) -> Plan:
    """LLCM: nine cameras, each by day and by infrared; test_nir/cam3 is missing, as released."""
    splits = split_identities(options)
    train = sorted(splits["train"] + splits["val"])
    labels = {pid: label for label, pid in enumerate(train)}
    shots, files = [], {"idx/test_id.txt": _id_list(splits["test"])}
    for folder in LLCM_FOLDERS:
        train_shots = [
            _llcm_shot(folder, pid, camera, frame, is_test=False)
            for pid in train
            for camera in LLCM_CAMERAS
            for frame in _frames(options, False)
        ]
        files[f"idx/train_{folder}.txt"] = _label_lines(train_shots, labels)
        shots += train_shots
        shots += [
            _llcm_shot(folder, pid, camera, frame, is_test=True)
            for camera in LLCM_CAMERAS
            if (folder, camera) != ("nir", 3)
            for pid in splits["test"]
            for frame in _frames(options, True)
        ]
    return Plan(shots, files)


def _llcm_shot(folder: str, pid: int, camera: int, frame: int, is_test: bool) -> Shot:
    modality = LLCM_FOLDERS[folder]
    second = (pid * 7919 + camera * 3571 + frame * 97) % 240000  # in place of the time of day
    name = f"{pid:04d}_c{camera:02d}_s{second:06d}_f{frame:04d}_{folder}.jpg"
    parent = f"test_{folder}/cam{camera}" if is_test else folder
    seed = (pid, camera, frame, modality)
    spec = CameraSpec(camera, modality, place=camera)
    return Shot(f"{parent}/{pid:04d}/{name}", pid, spec, seed, seed)


def _market1501(options: DemoOptions) -> Plan:
    """Market-1501, visible only: {bounding_box_train,query,bounding_box_test}/<name>.jpg.

    The first image of a test identity in each camera is its query, the others are the gallery.
    """
    test = set(split_identities(options)["test"])
    shots = []
    for pid in range(1, options.ids + options.test_ids + 1):
        for camera in MARKET_CAMERAS:
            for frame in _frames(options, pid in test):
                folder = "bounding_box_train"
                if pid in test:
                    folder = "query" if frame == 1 else "bounding_box_test"
                path = f"{folder}/{pid:04d}_c{camera}s1_{frame:06d}_01.jpg"
                seed = (pid, camera, frame)
                shots.append(Shot(path, pid, CameraSpec(camera, VISIBLE, camera), seed, seed))
    return Plan(shots, {})


LAYOUTS: dict[str, Callable[[DemoOptions], Plan]] = {
    "sysu": _sysu,
    "regdb": _regdb,
    "llcm": _llcm,
    "market1501": _market1501,
}
