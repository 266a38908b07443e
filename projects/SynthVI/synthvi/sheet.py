"""Contact sheets: look at the rendered people before believing them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from .camera import make_camera
from .layout import SYSU_CAMERAS, DemoOptions, Shot, plan, render_shot
from .levels import LEVELS
from .materials import Material
from .people import CUT, sample_person
from .person import Person
from .render import DIRECTIONS, Moment, render, sample_moment
from PIL import Image

SMALL = 96  # images lower than this are enlarged, pixel by pixel
TALL = (192, 96)


def contact_sheet(options: DemoOptions, identities: int = 8, each: int = 3) -> Image.Image:
    """The tree's own images: a row per identity (1 to `identities`), `each` images per camera."""
    shown = {}
    for shot in plan(options).shots:
        if shot.pid <= identities:
            shown.setdefault(shot.pid, {}).setdefault(shot.camera, []).append(shot)
    rows = [
        np.hstack(
            [
                _strip(options, shots[:each])
                for _, shots in sorted(
                    cameras.items(), key=lambda item: (item[0].number, item[0].modality)
                )
            ]
        )
        for _, cameras in sorted(shown.items())
    ]
    wide = max(row.shape[1] for row in rows)
    rows = [
        np.pad(row, ((0, 2), (0, wide - row.shape[1]), (0, 0)), constant_values=255) for row in rows
    ]
    sheet = Image.fromarray(np.vstack(rows))
    enlarge = -(-SMALL // options.height)
    return sheet.resize((sheet.width * enlarge, sheet.height * enlarge), Image.Resampling.NEAREST)


def _strip(options: DemoOptions, shots: list[Shot]) -> np.ndarray:
    return _row([render_shot(options, shot)[0] for shot in shots])


def _row(images: list[np.ndarray]) -> np.ndarray:
    return np.pad(np.hstack(images), ((0, 0), (0, 4), (0, 0)), constant_values=255)


def save_sheet(path: Path, options: DemoOptions, identities: int = 8) -> None:
    """Write a contact sheet as PNG or JPEG, by the ending of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(options, identities).save(path)


def save_pictures(folder: Path, seed: int = 0) -> list[Path]:
    """Write PICTURES, the pictures of docs/synth.md, as `synth_<name>.jpg`; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, draw in PICTURES.items():
        paths.append(folder / f"synth_{name}.jpg")
        draw(seed).save(paths[-1], quality=68)
    return paths


def people_picture(seed: int) -> Image.Image:
    """Eight identities, two families of look-alikes, before the six cameras."""
    options = DemoOptions(
        ids=12, test_ids=4, train_images=2, test_images=2, seed=seed, difficulty="standard"
    )
    return contact_sheet(options, 8, each=2)


def cues_picture(seed: int) -> Image.Image:
    """What identifies whom where: a person beside its changed self, by day and by infrared lamp.

    Rows: another cut in the same materials; other colours alone; another infrared reflectance alone.
    """
    level = LEVELS["easy"]
    person, other = (sample_person(seed, pid, level) for pid in (3, 9))
    changes: list[Callable[[Person], Person]] = [
        lambda p: replace(p, **{trait: getattr(other, trait) for trait in (*CUT, "hair", "hat")}),
        lambda p: _dyed(p, other, lambda own, new: Material(new.rgb, own.nir)),
        lambda p: _dyed(p, other, lambda own, new: Material(own.rgb, new.nir)),
    ]
    rows = []
    for change in changes:
        cells = [
            _posed(seed, one, camera, yaw)
            for camera in (0, 2)
            for one in (person, change(person))
            for yaw in (0.4, 2.4)
        ]
        rows.append(np.hstack([_row(cells[i : i + 2]) for i in range(0, 8, 2)]))
    return Image.fromarray(np.vstack(rows))


def _dyed(person: Person, other: Person, mix: Callable[[Material, Material], Material]) -> Person:
    return replace(
        person,
        palette={part: mix(stuff, other.palette[part]) for part, stuff in person.palette.items()},
    )


def views_picture(seed: int) -> Image.Image:
    """One person in eight directions and phases of the walk: rooms, street, infrared lamps."""
    person = sample_person(seed, 4, LEVELS["easy"])
    return Image.fromarray(
        np.vstack(
            [
                np.hstack(
                    [
                        _posed(seed, person, camera, 2 * np.pi * k / DIRECTIONS, k)
                        for k in range(DIRECTIONS)
                    ]
                )
                for camera in (1, 3, 5)
            ]
        )
    )


def levels_picture(seed: int) -> Image.Image:
    """A row per level of difficulty: four identities before a street's camera and an infrared one."""
    rows = []
    for name in LEVELS:
        options = DemoOptions(
            ids=4, test_ids=4, train_images=2, test_images=2, seed=seed, difficulty=name
        )
        shots = [shot for shot in plan(options).shots if shot.pid <= 4]
        rows.append(
            np.hstack(
                [
                    _strip(
                        options, [s for s in shots if s.pid == pid and s.camera.number == camera]
                    )
                    for camera in (4, 6)
                    for pid in range(1, 5)
                ]
            )
        )
    return Image.fromarray(np.vstack(rows))


def _posed(seed: int, person: Person, camera: int, yaw: float, step: int = 1) -> np.ndarray:
    """A person walking in a direction before SYSU camera `camera` + 1, in steady light."""
    level = replace(LEVELS["easy"], occluded=0.0, dusk=0.0)
    drawn = sample_moment(np.random.default_rng([seed, step]), level)
    pose = replace(
        drawn.pose, phase=1.9 + 2.4 * step, stride=1.0, swing=1.0, head_turn=0.0, raised=0
    )
    lens = make_camera(seed, SYSU_CAMERAS[camera], TALL)
    return render(
        person,
        lens,
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
