"""Images of every common kind become 8-bit RGB; broken ones are named."""

import numpy as np
import pytest
from PIL import Image

from icre.utils.errors import UserError
from icre.utils.image import read_image, verify_images

GRAY = np.array([[0, 100], [200, 250]], dtype=np.uint8)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "CMYK", "1"])
def test_modes_become_rgb(tmp_path, mode):
    path = str(tmp_path / ("image.tif" if mode == "CMYK" else "image.png"))
    source = Image.fromarray(GRAY).convert(mode)
    source.save(path)
    image = read_image(path)
    assert image.mode == "RGB" and image.size == (2, 2)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(source.convert("RGB")))


def test_sixteen_bits_are_stretched_to_eight(tmp_path):
    path = str(tmp_path / "thermal.png")
    Image.fromarray(np.array([[30000, 30040], [30120, 30200]], dtype=np.uint16)).save(path)
    expected = np.array([[0, 51], [153, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(read_image(path))[..., 0], expected)


def test_a_constant_sixteen_bit_image_is_black(tmp_path):
    path = str(tmp_path / "flat.png")
    Image.fromarray(np.full((2, 2), 500, dtype=np.uint16)).save(path)
    assert np.asarray(read_image(path)).max() == 0


def test_exif_orientation_is_applied(tmp_path):
    path = str(tmp_path / "turned.jpg")
    exif = Image.Exif()
    exif[274] = 6  # stored on its side
    Image.new("RGB", (8, 4)).save(path, exif=exif)
    assert read_image(path).size == (4, 8)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_broken_files_are_named(tmp_path, content):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    Image.new("RGB", (64, 64), "red").save(good)
    bad.write_bytes(good.read_bytes()[:400] if content is None else content)
    with pytest.raises(UserError, match=r"cannot read image .*bad\.jpg"):
        read_image(str(bad))
    with pytest.raises(UserError, match=r"bad\.jpg.*restore the data set") as caught:
        verify_images([str(good), str(bad), str(good)], progress=False)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.jpg"):
        read_image(str(tmp_path / "nowhere.jpg"))


def test_sound_files_pass(tmp_path):
    for name in ("a.jpg", "b.png"):
        Image.new("L", (5, 3)).save(tmp_path / name)
    verify_images([str(path) for path in tmp_path.iterdir()], progress=False)
