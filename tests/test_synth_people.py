"""The renderer: materials, geometry, light, and what identifies a person."""

import ast
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from icre import modality
from synthvi import (
    background,
    body,
    camera,
    identities,
    layout,
    materials,
    person,
    place,
    portable_math,
    raster,
)
from synthvi.layout import DemoOptions
from synthvi.levels import LEVELS
from synthvi.materials import Material
from synthvi.modality import INFRARED, VISIBLE
from synthvi.shading import Light, ground_shadow, reflected_light
from synthvi.solids import Limb, Stack, Surface, uniform

OPTIONS = DemoOptions(ids=4, test_ids=2, train_images=2, test_images=3, height=32, width=16, seed=3)


def test_modality_numbers_are_those_of_icre():
    assert (VISIBLE, INFRARED) == (modality.VISIBLE, modality.INFRARED)


def test_the_renderer_imports_nothing_but_what_it_says():
    allowed = {"numpy", "scipy", "PIL", "tqdm", "synthvi", *sys.stdlib_module_names}
    for file in Path(layout.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {name.split(".")[0] for name in names} <= allowed, file.name


def test_infrared_does_not_follow_colour():
    rng = np.random.default_rng(0)
    drawn = [materials.sample_material(rng, materials.GARMENT_COLOURS) for _ in range(2000)]
    nir = np.array([m.nir for m in drawn])
    for channel in np.array([m.rgb for m in drawn]).T:
        assert abs(np.corrcoef(channel, nir)[0, 1]) < 0.08


def test_second_material_mostly_stands_out_in_both_modalities():
    rng = np.random.default_rng(1)
    bases = [materials.sample_material(rng, materials.GARMENT_COLOURS) for _ in range(400)]
    seconds = [materials.sample_contrasting(rng, base, 0.9) for base in bases]
    gap = [abs(b.nir**0.45 - s.nir**0.45) for b, s in zip(bases, seconds)]
    assert 0.85 < np.mean(np.array(gap) >= 0.3 - 1e-9) < 1


@pytest.mark.parametrize("pattern", materials.PATTERNS)
def test_patterns_repeat_and_stay_between_the_two_materials(pattern):
    y, s = np.meshgrid(np.linspace(0, 1, 60), np.linspace(-0.5, 0.5, 50), indexing="ij")
    share = materials.PATTERNS[pattern](y * 8, s * 8, 20.0)
    assert share.min() >= 0 and share.max() <= 1
    again = materials.PATTERNS[pattern](y * 8 + 2, s * 8 + 2, 20.0)
    np.testing.assert_allclose(share, again, atol=1e-5)
    assert (share.std() > 0.2) == (pattern != "plain")


def canvas(yaw: float = 0.0, height: float = 0.5, distance: float = 1e6) -> raster.Canvas:
    """128x64, a body height is 100 pixels, feet at (32, 120); by default seen from far away."""
    view = raster.View(yaw, height, distance, 100.0, (32.0, 120.0))
    return raster.Canvas((128, 64), view, VISIBLE, np.zeros((2, 128, 64), np.float32))


WHITE, GREY = uniform(Material((1.0,) * 3, 1.0)), uniform(Material((0.25,) * 3, 0.25))


def post(lateral: float, forward: float, surface: Surface, half: float = 0.1) -> Stack:
    return Stack(
        np.array([0.2, 0.8]), np.full(2, half), np.full(2, half), surface, centre=(lateral, forward)
    )


def test_stack_covers_the_ellipse_it_projects_to():
    """Hand-worked: half-widths 0.2 and 0.1 turned by 90 degrees are 20 then 10 pixels wide."""
    box = Stack(np.array([0.2, 0.8]), np.array([0.2, 0.2]), np.array([0.1, 0.1]), WHITE)
    for yaw, half in ((0.0, 20), (np.pi / 2, 10)):
        made = canvas(yaw)
        made.paint([box])
        assert made.cover.sum() == pytest.approx(2 * half * 60, rel=0.02)
        assert made.cover[70, 32 - half + 1] == 1 and made.cover[70, 32 - half - 2] == 0
    np.testing.assert_allclose(made.albedo[0], made.cover, atol=1e-6)


def test_limb_covers_a_capsule():
    made = canvas()
    made.paint([Limb(np.array([0, 0.3, 0]), np.array([0, 0.7, 0]), (0.1, 0.1), WHITE)])
    assert made.cover.sum() == pytest.approx(20 * 40 + np.pi * 100, rel=0.02)


@pytest.mark.parametrize("yaw, seen", [(0.0, 1.0), (np.pi, 0.25)])
def test_the_nearer_solid_is_seen_in_whatever_order_they_are_drawn(yaw, seen):
    before, behind = post(0.0, 0.3, WHITE), post(0.0, -0.3, GREY)
    for solids in ([before, behind], [behind, before]):
        made = canvas(yaw)
        made.paint(solids)
        np.testing.assert_allclose(made.albedo[0, 50:90, 25:39], seen, atol=1e-3)


def test_a_pinhole_camera_shows_near_things_larger_and_lower():
    """Hand-worked for a level camera at distance 2: a point 1 nearer is twice as large."""
    view = raster.View(0.0, 0.5, 2.0, 1.0, (0.0, 0.0))
    x, y, scale = view.project(np.array([0.1, 0.1]), np.array([0.5, 0.0]), np.array([1.0, 1.0]))
    np.testing.assert_allclose(x, 0.2)
    np.testing.assert_allclose(y, [0.5, -0.5])
    np.testing.assert_allclose(scale, 2.0)
    high = raster.View(0.0, 2.0, 3.0, 1.0, (0.0, 0.0))
    _, feet, _ = high.project(np.zeros(2), np.zeros(2), np.array([0.0, 0.3]))
    assert feet[0] == pytest.approx(0) and feet[1] < -0.05


def test_front_of_a_surface_faces_the_way_the_person_walks():
    """A dark back and a bright front: seen bright at yaw 0, dark at yaw pi."""
    bright, dark = Material((1.0,) * 3, 1.0), Material((0.0,) * 3, 0.0)
    surface = replace(
        uniform(dark),
        overlays=(
            (lambda p: p.inside((np.pi / 2 - np.abs(p.angle)) * 0.1), uniform(bright).cloth),
        ),
    )
    means = []
    for yaw in (0.0, np.pi):
        made = canvas(yaw)
        made.paint([post(0.0, 0.0, surface, half=0.2)])
        means.append(float(made.albedo[0, 50:80, 20:44].mean()))
    assert means[0] > 0.95 and means[1] < 0.05


def test_light_falls_on_the_side_that_faces_it_and_shadows_fall_away_from_it():
    made = canvas(height=2.0, distance=4.0)
    solid = post(0.0, 0.0, WHITE)
    made.paint([solid])
    light = Light(np.zeros(3), np.ones(3), (0.6, 0.8, 0.0), 0.8)
    seen = reflected_light(made, light)[0]
    assert seen[70, 38] > 3 * seen[70, 32] and seen[70, 26] == 0
    shadow = ground_shadow(made, [solid], light)
    assert shadow[118, 8] < 0.6 < 0.95 < shadow[118, 60]


def test_a_corner_is_darker_than_an_open_place():
    open_place, corner = canvas(), canvas()
    open_place.paint([post(0.0, 0.0, WHITE, 0.2)])
    corner.paint([post(0.0, 0.0, WHITE, 0.2), post(0.0, 0.3, GREY, 0.05)])
    light = Light(np.ones(3), np.zeros(3), (0.0, 0.6, 0.8), 0.0)
    beside = (slice(60, 80), 38)
    assert (
        reflected_light(corner, light)[0][beside]
        < 0.95 * reflected_light(open_place, light)[0][beside]
    ).all()


def test_feet_reach_the_ground_and_bones_keep_their_length():
    someone = identities.sample_person(0, 1, LEVELS["easy"])
    for phase in np.linspace(0, 2 * np.pi, 9):
        j = body.joints(someone, body.Pose(float(phase), 1.0, 1.0, 0.0, 0.3))
        np.testing.assert_allclose(np.linalg.norm(j.knee - j.hip, axis=1), body.THIGH)
        np.testing.assert_allclose(np.linalg.norm(j.ankle - j.knee, axis=1), body.SHIN)
        assert j.ankle[:, 1].min() == pytest.approx(body.ANKLE)


@pytest.mark.slow
def test_pictures_are_finite_for_many_people_and_views():
    options = replace(OPTIONS, ids=40, train_images=1, difficulty="extreme")
    shots = layout.plan(options).shots[::7]  # 7 and the six cameras have no common factor
    assert {shot.camera.number for shot in shots} == set(range(1, 7))
    with np.errstate(invalid="raise", divide="raise"):
        for shot in shots:
            image, quality = layout.render_shot(options, shot)
            assert image.shape == (32, 16, 3) and image.dtype == np.uint8 and 75 <= quality <= 95


def test_thermal_people_have_warm_skin_and_unchanged_shape():
    someone = identities.sample_person(0, 5, LEVELS["easy"])
    warm = person.as_thermal(someone)
    assert warm.palette["skin"].nir > max(
        stuff.nir for part, stuff in warm.palette.items() if part != "skin"
    )
    assert {part: m.rgb for part, m in warm.palette.items()} == {
        part: m.rgb for part, m in someone.palette.items()
    }
    assert replace(warm, palette=someone.palette) == someone


def test_cameras_two_and_three_share_a_place():
    by_number = {camera.number: camera for camera in layout.SYSU_CAMERAS}
    assert by_number[2].place == by_number[3].place
    assert len({c.place for c in layout.SYSU_CAMERAS}) == 5
    assert {n for n, c in by_number.items() if c.modality == INFRARED} == {3, 6}


def test_a_place_has_the_same_edges_in_both_modalities():
    def edges(number: int, modality: int) -> np.ndarray:
        painted, _ = background.paint_panorama(place.sample_place(0, number), modality, 64, 32)
        return np.abs(np.diff(painted, axis=2)).mean(axis=0).ravel() > 0.02

    visible, infrared, other = edges(2, VISIBLE), edges(2, INFRARED), edges(4, INFRARED)
    same, different = (np.corrcoef(visible, found)[0, 1] for found in (infrared, other))
    assert same > 0.4 > 0.2 > different


def shared(one: person.Person, other: person.Person) -> set[str]:
    """Traits seen in both modalities by which two people look alike."""
    return {
        name
        for name, appearance in identities.TRAITS.items()
        if appearance(getattr(one, name)) == appearance(getattr(other, name))
    }


def test_members_of_a_family_look_alike_in_colour_or_cut_but_never_in_all():
    level = LEVELS["standard"]
    family = [identities.sample_person(0, pid, level) for pid in range(1, level.family + 1)]
    colours = [member.palette["top"].rgb for member in family]
    assert colours[0] == colours[2] == colours[3] != colours[1]
    for a in range(len(family)):
        for b in range(a):
            assert len(shared(family[a], family[b])) < len(identities.TRAITS)
    strangers = [identities.sample_person(0, 1 + level.family * n, level) for n in range(1, 10)]
    alike = np.mean([len(shared(family[1], other)) for other in strangers])
    assert len(shared(family[1], family[2])) + len(shared(family[2], family[3])) > 2 * alike


@pytest.mark.parametrize("modality, half", [(VISIBLE, "nir"), (INFRARED, "rgb")])
def test_each_modality_is_blind_to_half_of_the_palette(modality, half, monkeypatch):
    """Other infrared reflectances leave the visible picture as it is, and the reverse."""
    shot = next(s for s in layout.plan(OPTIONS).shots if s.camera.modality == modality)
    before, _ = layout.render_shot(OPTIONS, shot)
    someone = identities.sample_person(OPTIONS.seed, shot.pid, LEVELS[OPTIONS.difficulty])
    other = {
        "nir": lambda m: Material(m.rgb, 1 - m.nir),
        "rgb": lambda m: Material(m.rgb[::-1], m.nir),
    }[half]
    both = lambda m: Material(tuple(1 - c for c in m.rgb), 1 - m.nir)  # noqa: E731
    for change, same in ((other, True), (both, False)):
        made = replace(someone, palette={k: change(m) for k, m in someone.palette.items()})
        monkeypatch.setattr(layout, "_person", lambda *_: made)
        assert (layout.render_shot(OPTIONS, shot)[0] == before).all() == same


def test_levels_are_ordered_in_every_column():
    rows = [
        LEVELS[name]
        for name in ("uniform", "plain", "muted", "easy", "mild", "standard", "hard", "extreme")
    ]
    assert list(LEVELS.values()) == rows
    for name in ("family", "occluded", "dusk", "noise", "blur", "jitter"):
        values = [getattr(row, name) for row in rows]
        assert values == sorted(values) and values[0] < values[-1]
    for name in ("patterned", "contrast"):
        values = [getattr(row, name) for row in rows]
        assert values == sorted(values, reverse=True) and values[0] > values[-1]
    fewer = {name: row.colours for name, row in LEVELS.items() if row.colours != 1}
    assert list(fewer) == ["uniform", "muted"] and fewer["uniform"] < fewer["muted"] < 1


def test_uniforms_have_two_tones_and_keep_their_patterns():
    drawn = identities.sample_person(0, 7, LEVELS["plain"]).palette
    worn = identities.sample_person(0, 7, LEVELS["uniform"]).palette
    assert worn["skin"] == drawn["skin"] and worn["hair"] == drawn["hair"]
    keep = LEVELS["uniform"].colours
    for part in set(drawn) - {"skin", "hair"}:
        values = np.array([*worn[part].rgb, worn[part].nir]) ** 0.45
        assert np.abs(values[:, None] - materials.TONES).min(1).max() <= keep * 0.75 + 1e-6, part
    for part in ("top", "bottom", "bag", "hat", "inner"):
        base, second = worn[part], worn[f"{part} second"]
        assert abs(materials.lightness(base.rgb) - materials.lightness(second.rgb)) > 0.25
        assert abs(base.nir**0.45 - second.nir**0.45) > 0.25


def test_no_colours_left_means_two_tones_exactly():
    dark = materials.pull_to_tones(Material((0.01, 0.2, 0.02), 0.7), 0.0)
    assert np.allclose(np.array(dark.rgb) ** 0.45, 0.25) and np.isclose(dark.nir**0.45, 0.75)
    beside = Material((0.5, 0.5, 0.5), 0.02)  # lightness 0.73, infrared 0.17
    other = materials.pull_to_tones(Material((0.2, 0.2, 0.2), 0.03), 0.0, beside)
    assert np.allclose(np.array(other.rgb) ** 0.45, 0.25) and np.isclose(other.nir**0.45, 0.25)


def test_noise_of_a_sensor_twice_as_fine_is_averaged_down():
    """Small images are rendered at twice their size: their noise is half that of a large one."""
    spreads = []
    for height in (96, 192):
        made = camera.make_camera(0, layout.SYSU_CAMERAS[2], (height, height // 2))
        lighting = camera.Lighting(
            Light(np.ones(1), np.ones(1), (0.0, 0.1, 0.9), 0.0), np.ones(1), 1, 1, 0
        )
        grey = np.full(
            (1, made.supersampling * height, made.supersampling * height // 2), 0.25, np.float32
        )
        rng = np.random.default_rng(0)
        made = replace(made, lamp_cone=np.float32(1), exposure=1.0, row_noise=0.0, noise=0.02)
        spreads.append(camera.expose(made, grey, lighting, LEVELS["standard"], rng).std())
    assert spreads[0] == pytest.approx(spreads[1] / 2, rel=0.1)


def test_portable_functions_are_close_to_numpys():
    x = np.linspace(-1, 1, 4001).astype(np.float32)
    wide = np.linspace(-20, 20, 4001).astype(np.float32)
    assert portable_math.arcsin(x).dtype == portable_math.sin(wide).dtype == np.float32
    np.testing.assert_allclose(portable_math.arcsin(x), np.arcsin(x.astype(float)), atol=5e-7)
    np.testing.assert_allclose(portable_math.sin(wide), np.sin(wide.astype(float)), atol=1e-7)
    np.testing.assert_allclose(portable_math.cos(wide), np.cos(wide.astype(float)), atol=1e-7)
    np.testing.assert_allclose(
        portable_math.bell(x * x), np.exp(-(x.astype(float) ** 2)), atol=0.04
    )
