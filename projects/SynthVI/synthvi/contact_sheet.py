"""Contact sheets of a tree, and the pictures of the documentation."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from synthvi.camera import make_camera
from synthvi.identities import CUT_TRAITS, sample_person
from synthvi.layout import SYSU_CAMERAS, DemoOptions, Shot, plan, render_shot
from synthvi.levels import LEVELS
from synthvi.materials import Material
from synthvi.person import Person
from synthvi.render import DIRECTIONS, Moment, render, sample_moment

MIN_HEIGHT = 96  # images lower than this are enlarged by a whole factor
PICTURE_SIZE = (192, 96)


def contact_sheet(
    options: DemoOptions, identities: int = 8, images_per_camera: int = 3
) -> Image.Image:
    """Images of the tree: a row per identity 1 to `identities`, cameras from left to right."""
    shown: dict[int, dict] = defaultdict(lambda: defaultdict(list))
    for shot in plan(options).shots:
        if shot.pid <= identities:
            shown[shot.pid][shot.camera.number, shot.camera.modality].append(shot)
    rows = [
        np.hstack([_strip(options, cameras[c][:images_per_camera]) for c in sorted(cameras)])
        for _, cameras in sorted(shown.items())
    ]
    wide = max(row.shape[1] for row in rows)
    rows = [
        np.pad(row, ((0, 2), (0, wide - row.shape[1]), (0, 0)), constant_values=255) for row in rows
    ]
    sheet = Image.fromarray(np.vstack(rows))
    factor = -(-MIN_HEIGHT // options.height)
    return sheet.resize((sheet.width * factor, sheet.height * factor), Image.Resampling.NEAREST)


def save_contact_sheet(path: Path, options: DemoOptions, identities: int = 8) -> None:
    """Write a contact sheet as PNG or JPEG, by the suffix of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(options, identities).save(path)


def save_pictures(folder: Path, seed: int = 0) -> list[Path]:
    """Write the pictures of the documentation as `synth_<name>.jpg`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, picture in PICTURES.items():
        paths.append(folder / f"synth_{name}.jpg")
        picture(seed).save(paths[-1], quality=68)
    return paths


def people_picture(seed: int) -> Image.Image:
    """Eight identities of two families, seen by the six cameras."""
    options = DemoOptions(
        ids=12, test_ids=4, train_images=2, test_images=2, seed=seed, difficulty="standard"
    )
    return contact_sheet(options, 8, images_per_camera=2)


def cues_picture(seed: int) -> Image.Image:
    """What shows in which modality: a person beside a changed copy, visible left, infrared right.

    Rows: another cut in the same materials; other colours only; other infrared reflectances only.
    """
    level = LEVELS["easy"]
    person, other = (sample_person(seed, pid, level) for pid in (3, 9))
    traits = (*CUT_TRAITS, "hair", "hat")
    changed = [
        replace(person, **{trait: getattr(other, trait) for trait in traits}),
        _with_materials(person, lambda part, old: Material(other.palette[part].rgb, old.nir)),
        _with_materials(person, lambda part, old: Material(old.rgb, other.palette[part].nir)),
    ]
    rows = [
        [
            _row([_walking(seed, someone, camera, yaw) for yaw in (0.4, 2.4)])
            for camera in (0, 2)
            for someone in (person, copy)
        ]
        for copy in changed
    ]
    return Image.fromarray(np.vstack([np.hstack(row) for row in rows]))


def views_picture(seed: int) -> Image.Image:
    """One person in eight directions and phases of the walk: a room, a street, infrared."""
    person = sample_person(seed, 4, LEVELS["easy"])
    rows = [
        [
            _walking(seed, person, camera, 2 * np.pi * k / DIRECTIONS, step=k)
            for k in range(DIRECTIONS)
        ]
        for camera in (1, 3, 5)
    ]
    return Image.fromarray(np.vstack([np.hstack(row) for row in rows]))


def levels_picture(seed: int) -> Image.Image:
    """A row per level of difficulty: four identities in a street camera and an infrared one."""
    rows = []
    for name in LEVELS:
        options = DemoOptions(
            ids=4, test_ids=4, train_images=2, test_images=2, seed=seed, difficulty=name
        )
        shots = plan(options).shots
        strips = [
            _strip(options, [s for s in shots if s.pid == pid and s.camera.number == camera])
            for camera in (4, 6)
            for pid in range(1, 5)
        ]
        rows.append(np.hstack(strips))
    return Image.fromarray(np.vstack(rows))


def _strip(options: DemoOptions, shots: list[Shot]) -> np.ndarray:
    return _row([render_shot(options, shot)[0] for shot in shots])


def _row(images: list[np.ndarray]) -> np.ndarray:
    return np.pad(np.hstack(images), ((0, 0), (0, 4), (0, 0)), constant_values=255)


def _with_materials(person: Person, change: Callable[[str, Material], Material]) -> Person:
    return replace(
        person, palette={part: change(part, old) for part, old in person.palette.items()}
    )


def _walking(seed: int, person: Person, camera: int, yaw: float, step: int = 1) -> np.ndarray:
    """A person walking in a direction, in steady light; `camera` is an index of SYSU_CAMERAS."""
    level = replace(LEVELS["easy"], occluded=0.0, dusk=0.0)
    sampled = sample_moment(np.random.default_rng([seed, step]), level)
    pose = replace(
        sampled.pose, phase=1.9 + 2.4 * step, stride=1.0, swing=1.0, head_turn=0.0, raised=0
    )
    return render(
        person,
        make_camera(seed, SYSU_CAMERAS[camera], PICTURE_SIZE),
        Moment(pose, yaw, 1.0, (0.0, 0.0)),
        level,
        np.random.default_rng([seed, 47, step]),
    )


PICTURES: dict[str, Callable[[int], Image.Image]] = {
    "people": people_picture,
    "cues": cues_picture,
    "views": views_picture,
    "levels": levels_picture,
}
