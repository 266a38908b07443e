"""The demo renderer: exact layouts, same bytes for a seed, materials, geometry, safe writing."""

import hashlib
import json
import runpy
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from icre.data.synth import body, layout, materials, person, raster, scene, tree
from icre.data.synth.layout import DemoError, DemoOptions
from icre.data.synth.materials import Material
from icre.data.synth.solids import Chain, Limb, Stack, uniform
from icre.modality import INFRARED, VISIBLE

TOOL = Path(__file__).parents[1] / "tools" / "make_demo_data.py"
TINY = DemoOptions(ids=4, test_ids=2, train_images=2, test_images=3, height=32, width=16, seed=3)


def digest(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def sysu(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("demo") / "SYSU-MM01"
    tree.write_tree(root, TINY, workers=1, progress=False)
    return root


def ids_of(root: Path, name: str) -> list[int]:
    return [int(word) for word in (root / "exp" / f"{name}_id.txt").read_text().split(",")]


def test_sysu_layout_is_exact(sysu):
    train, val, test = (ids_of(sysu, name) for name in ("train", "val", "test"))
    assert sorted(train + val + test) == list(range(1, 7))
    assert (len(train), len(val), len(test)) == (3, 1, 2)
    for camera in range(1, 7):
        for pid in range(1, 7):
            names = sorted(p.name for p in (sysu / f"cam{camera}" / f"{pid:04d}").iterdir())
            assert names == [f"{f:04d}.jpg" for f in range(1, 4 if pid in test else 3)]
    cameras = {f"cam{number}" for number in range(1, 7)}
    assert {p.name for p in sysu.iterdir()} == cameras | {"exp", "demo.json"}


def test_rand_perm_cam_has_the_official_structure(sysu):
    cells = scipy.io.loadmat(sysu / "exp" / "rand_perm_cam.mat")["rand_perm_cam"]
    assert cells.shape == (6, 1)
    test = ids_of(sysu, "test")
    for camera in range(6):
        per_id = cells[camera][0]
        assert per_id.shape == (6, 1)
        for pid in range(1, 7):
            draws = per_id[pid - 1][0]
            images = 3 if pid in test else 2
            assert draws.shape == (10, images) and draws.dtype == np.uint8
            assert (np.sort(draws, axis=1) == np.arange(1, images + 1)).all()


def test_official_file_has_the_same_structure():
    official = Path(__file__).parents[2] / "shared" / "sysu_split" / "rand_perm_cam.mat"
    if not official.is_file():
        pytest.skip("the official split file is not at hand (it comes with the data set)")
    real = scipy.io.loadmat(official)["rand_perm_cam"]
    ours = layout.plan(TINY).files["exp/rand_perm_cam.mat"]
    made = scipy.io.loadmat(BytesIO(ours))["rand_perm_cam"]
    for cells in (real, made):
        assert cells.shape == (6, 1) and cells.dtype == object
        assert cells[0][0].ndim == 2 and cells[0][0].shape[1] == 1
        assert cells[0][0][0][0].shape[0] == 10 and cells[0][0][0][0].dtype == np.uint8


def test_images_have_size_and_modality(sysu):
    for camera in range(1, 7):
        image = Image.open(sysu / f"cam{camera}" / "0001" / "0001.jpg")
        assert image.size == (16, 32) and image.mode == "RGB"
        channels = np.asarray(image).astype(int)
        grey = (channels == channels[..., :1]).all()
        assert grey == (camera in (3, 6))
        assert channels.std() > 5


def test_same_seed_same_bytes_for_any_workers(sysu, tmp_path):
    tree.write_tree(tmp_path / "again", TINY, workers=2, progress=False)
    assert digest(tmp_path / "again") == digest(sysu)
    other = layout.plan(replace(TINY, seed=4)).shots[0]
    first = layout.plan(TINY).shots[0]
    assert (layout.render_shot(replace(TINY, seed=4), other)[0]
            != layout.render_shot(TINY, first)[0]).any()


def test_finished_tree_is_left_alone_and_half_tree_is_redone(sysu, tmp_path):
    root, options = tmp_path / "tree", replace(TINY, ids=1, test_ids=1)
    counts = tree.write_tree(root, options, workers=1, progress=False)
    whole = digest(root)
    victim = root / "cam1" / "0001" / "0001.jpg"
    victim.write_bytes(b"mine")
    assert tree.write_tree(root, options, workers=1, progress=False) == counts
    assert victim.read_bytes() == b"mine"
    (root / "demo.json").rename(root / "demo.partial.json")
    tree.write_tree(root, options, workers=1, progress=False)
    assert digest(root) == whole


@pytest.mark.parametrize("marker", ["demo.json", "demo.partial.json"])
def test_tree_of_other_arguments_is_refused(marker, tmp_path):
    (tmp_path / marker).write_text(json.dumps({"arguments": {"seed": 9}}))
    with pytest.raises(DemoError, match="choose another"):
        tree.write_tree(tmp_path, TINY, workers=1, progress=False)


def test_foreign_folder_and_file_are_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    for root in (tmp_path, tmp_path / "photo.jpg"):
        with pytest.raises(DemoError, match="choose another") as error:
            tree.write_tree(root, TINY, workers=1, progress=False)
        assert "\n" not in str(error.value)
    assert digest(tmp_path).keys() == {"photo.jpg"}


@pytest.mark.parametrize("arguments, word", [
    (["--ids", "0"], "ids is 0"), (["--test-ids", "0"], "test_ids is 0"),
    (["--size", "128"], "--size 128"), (["--seed", "-1"], "seed is -1"),
    (["--workers", "-2"], "--workers -2"),
    (["--contact-sheet", "x.doc"], "--contact-sheet x.doc"), (["--size", "4x4"], "size is 4x4")])
def test_bad_arguments_are_one_line(arguments, word, tmp_path, capsys):
    main = runpy.run_path(str(TOOL))["main"]
    assert main(["--root", str(tmp_path / "x"), *arguments]) == 2
    said = capsys.readouterr().err
    assert word in said and len(said.splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_tool_writes_and_says_what(tmp_path, capsys):
    main = runpy.run_path(str(TOOL))["main"]
    command = ["--root", str(tmp_path / "x"), "--ids", "1", "--test-ids", "1", "--workers", "1",
               "--images-per-camera", "1", "--test-images-per-camera", "2", "--size", "32x16",
               "--contact-sheet", str(tmp_path / "sheet.png")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "18 images written" in said and "cam6" in said
    assert main(command) == 0
    assert "already there" in capsys.readouterr().out
    assert Image.open(tmp_path / "sheet.png").width > 6 * 16


def test_regdb_has_ten_splits_of_existing_files():
    options = replace(TINY, layout="regdb")
    made = layout.plan(options)
    paths = {shot.path for shot in made.shots}
    assert len(paths) == len(made.shots) == 2 * 6 * 3 and all(p.endswith(".bmp") for p in paths)
    assert len(made.files) == 40 and len(set(made.files.values())) > 4
    for split in range(1, 11):
        people = {}
        for name, count in (("train", 4), ("test", 2)):
            for modality in ("visible", "thermal"):
                rows = [line.split() for line in
                        made.files[f"idx/{name}_{modality}_{split}.txt"].decode().splitlines()]
                assert all(path in paths and path.startswith(modality.title()) for path, _ in rows)
                assert {int(label) for _, label in rows} == set(range(count))
                people.setdefault(name, set()).update(int(path.split("/")[1]) for path, _ in rows)
        assert len(people["train"]) == 4 and len(people["test"]) == 2
        assert not people["train"] & people["test"]


def test_llcm_trees_and_names():
    made = layout.plan(replace(TINY, layout="llcm"))
    paths = [shot.path for shot in made.shots]
    assert len(set(paths)) == len(paths)
    test = [int(word) for word in made.files["idx/test_id.txt"].decode().split(",")]
    assert {p.split("/")[1] for p in paths if p.startswith("test_nir/")} == {
        f"cam{c}" for c in (1, 2, 4, 5, 6, 7, 8, 9)}
    assert {p.split("/")[1] for p in paths if p.startswith("test_vis/")} == {
        f"cam{c}" for c in range(1, 10)}
    for folder in ("vis", "nir"):
        lines = made.files[f"idx/train_{folder}.txt"].decode().splitlines()
        rows = [line.split() for line in lines]
        assert sorted(path for path, _ in rows) == sorted(p for p in paths if p.startswith(folder))
        assert {int(label) for _, label in rows} == set(range(4))
        assert not {int(path.split("/")[1]) for path, _ in rows} & set(test)
        parts = Path(rows[0][0]).stem.split("_")
        assert parts[1][0] == "c" and len(parts[1]) == 3 and parts[-1] == folder


def test_validation_share_is_that_of_sysu():
    splits = layout.split_identities(DemoOptions(ids=395, test_ids=96))
    assert {name: len(ids) for name, ids in splits.items()} == {"train": 296, "val": 99, "test": 96}
    assert layout.split_identities(DemoOptions(ids=395, test_ids=96, seed=1)) != splits


def test_infrared_does_not_follow_colour():
    rng = np.random.default_rng(0)
    drawn = [materials.draw_material(rng, materials.GARMENT_COLOURS) for _ in range(2000)]
    nir = np.array([m.nir for m in drawn])
    for channel in np.array([m.rgb for m in drawn]).T:
        assert abs(np.corrcoef(channel, nir)[0, 1]) < 0.08


def test_second_material_mostly_stands_out_in_both_modalities():
    rng = np.random.default_rng(1)
    cloths = [materials.draw_cloth(rng, {"hoops": 1}) for _ in range(400)]
    gap = [abs(c.base.nir ** 0.45 - c.second.nir ** 0.45) for c in cloths]
    assert 0.85 < np.mean(np.array(gap) >= 0.3 - 1e-9) < 1


@pytest.mark.parametrize("pattern", materials.PATTERNS)
def test_patterns_repeat_and_stay_between_the_two_materials(pattern):
    y, s = np.meshgrid(np.linspace(0, 1, 60), np.linspace(-0.5, 0.5, 50), indexing="ij")
    share = materials.PATTERNS[pattern](y * 8, s * 8, 20.0)
    assert share.min() >= 0 and share.max() <= 1
    again = materials.PATTERNS[pattern](y * 8 + 2, s * 8 + 2, 20.0)
    np.testing.assert_allclose(share, again, atol=1e-6)
    assert (share.std() > 0.2) == (pattern != "plain")


def canvas(yaw: float = 0.0) -> raster.Canvas:
    view = raster.View(yaw, 0.0, 0.0, 100.0, (32.0, 120.0))
    light = raster.Light(1.0, 0.0, (0.0, 0.0, 1.0))
    return raster.Canvas(np.zeros((3, 128, 64), np.float32), view, light, VISIBLE,
                         np.ones((128, 64), np.float32))


def test_stack_covers_the_ellipse_it_projects_to():
    """Hand-worked: half-widths 0.2 and 0.1 turned by 90 degrees are 20 then 10 pixels wide."""
    white = uniform(Material((1.0, 1.0, 1.0), 1.0))
    box = Stack(0, np.array([0.2, 0.8]), np.array([0.2, 0.2]), np.array([0.1, 0.1]), white)
    for yaw, half in ((0.0, 20), (np.pi / 2, 10)):
        made = canvas(yaw)
        made.paint([box])
        assert made.cover.sum() == pytest.approx(2 * half * 60, rel=0.02)
        assert made.cover[70, 32 - half + 1] == 1 and made.cover[70, 32 - half - 2] == 0
    np.testing.assert_allclose(made.image[0], made.cover, atol=1e-6)


def test_limb_covers_a_capsule():
    white = uniform(Material((1.0, 1.0, 1.0), 1.0))
    made = canvas()
    made.paint([Chain(0, (Limb(np.array([0, 0.3, 0]), np.array([0, 0.7, 0]), (0.1, 0.1), white),))])
    assert made.cover.sum() == pytest.approx(20 * 40 + np.pi * 100, rel=0.02)


def test_front_of_a_surface_faces_the_way_the_person_walks():
    """A dark back and a bright front: seen bright at yaw 0, dark at yaw pi."""
    bright, dark = Material((1.0,) * 3, 1.0), Material((0.0,) * 3, 0.0)
    surface = replace(uniform(dark), overlays=(
        (lambda p: p.inside((np.pi / 2 - np.abs(p.tau)) * 0.1), uniform(bright).cloth),))
    solid = Stack(0, np.array([0.2, 0.8]), np.array([0.2, 0.2]), np.array([0.2, 0.2]), surface)
    means = []
    for yaw in (0.0, np.pi):
        made = canvas(yaw)
        made.paint([solid])
        means.append(float(made.image[0, 50:80, 20:44].mean()))
    assert means[0] > 0.95 and means[1] < 0.05


def test_feet_reach_the_ground_and_bones_keep_their_length():
    someone = person.sample_person(0, 1)
    for phase in np.linspace(0, 2 * np.pi, 9):
        j = body.joints(someone, body.Pose(float(phase), 1.0, 1.0, 0.0, 0.3))
        np.testing.assert_allclose(np.linalg.norm(j.knee - j.hip, axis=1), body.THIGH)
        np.testing.assert_allclose(np.linalg.norm(j.ankle - j.knee, axis=1), body.SHIN)
        assert j.ankle[:, 1].min() == pytest.approx(0.036)


def test_pictures_are_finite_for_many_people_and_views():
    made = layout.plan(replace(TINY, ids=40, train_images=1))
    for shot in made.shots[::3]:
        image, quality = layout.render_shot(TINY, shot)
        assert image.shape == (32, 16, 3) and image.dtype == np.uint8 and 75 <= quality <= 95


def test_thermal_people_have_warm_skin_and_unchanged_shape():
    someone = person.sample_person(0, 5)
    warm = person.as_thermal(someone)
    assert warm.body.skin.nir > max(warm.top.cloth.base.nir, warm.bottom.cloth.base.nir)
    assert warm.body.skin.rgb == someone.body.skin.rgb
    assert (warm.top.hem, warm.bag.kind, warm.stride) == (
        someone.top.hem, someone.bag.kind, someone.stride)


def test_cameras_two_and_three_share_a_place():
    by_number = {camera.number: camera for camera in layout.SYSU_CAMERAS}
    assert by_number[2].place == by_number[3].place
    assert len({c.place for c in layout.SYSU_CAMERAS}) == 5
    assert {n for n, c in by_number.items() if c.modality == INFRARED} == {3, 6}


def test_a_place_has_the_same_edges_in_both_modalities():
    def edges(number: int, modality: int) -> np.ndarray:
        painted = scene.paint(scene.sample_place(0, number), modality, 64, 32)
        return np.abs(np.diff(painted, axis=2)).mean(axis=0).ravel() > 0.02

    visible, infrared, other = edges(2, VISIBLE), edges(2, INFRARED), edges(4, INFRARED)
    same, different = (np.corrcoef(visible, found)[0, 1] for found in (infrared, other))
    assert same > 0.4 > 0.2 > different
