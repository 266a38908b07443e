"""Images of every common kind become 8-bit RGB; broken ones are named."""

import importlib.util
import os
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from icre.utils.errors import UserError
from icre.utils.image import (
    FORMATS,
    IMAGE_SUFFIXES,
    decode_image,
    find_faults,
    is_image,
    read_image,
    verify_images,
)

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
    with pytest.raises(UserError, match=r"nowhere\.jpg"):
        read_image(str(tmp_path / "nowhere.jpg"))


def test_sound_files_pass(tmp_path):
    for name in ("a.jpg", "b.png"):
        Image.new("L", (5, 3)).save(tmp_path / name)
    verify_images([str(path) for path in tmp_path.iterdir()], progress=False)


def png_of(path, values):
    Image.fromarray(values).save(path)
    return str(path)


def thermal(dtype=np.float32, low=0.4, high=0.5, shape=(96, 48)):
    """A ramp in a narrow range."""
    ramp = np.linspace(low, high, shape[0] * shape[1]).reshape(shape)
    return ramp.astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.float32, 0.4, 0.5),
        (np.float32, 1e-9, 2e-9),
        (np.float32, -1e38, 2e38),
        (np.uint16, 30000, 31000),
        (np.int32, -70000, 70000),
    ],
)
def test_any_span_is_stretched(tmp_path, dtype, low, high):
    path = png_of(tmp_path / "thermal.tif", thermal(dtype, low, high))
    gray = np.asarray(read_image(path))[..., 0]
    assert gray.min() == 0 and gray.max() == 255
    assert abs(gray.mean() - 127.5) < 1 and (np.diff(gray.ravel().astype(int)) >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int32])
@pytest.mark.parametrize("worst", [[0], [60000], [0, 60000], [60000] * 5])
def test_dead_and_hot_pixels_do_not_take_the_range(tmp_path, dtype, worst):
    values = thermal(dtype, 30000, 31000)
    clean = np.asarray(read_image(png_of(tmp_path / "a.tif", values))).astype(int)
    values[10:60:10, 7][: len(worst)] = worst
    dirty = np.asarray(read_image(png_of(tmp_path / "b.tif", values))).astype(int)
    changed = np.abs(dirty - clean).max(axis=2) > 3
    assert changed.sum() <= len(worst)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_ignored_and_counted(tmp_path, wrong, caplog):
    values = thermal()
    clean = np.asarray(read_image(png_of(tmp_path / "a.tif", values))).astype(int)
    values[3, 4] = values[50, 9] = wrong
    path = png_of(tmp_path / "b.tif", values)
    with caplog.at_level("WARNING", "fastreid.icre"):
        dirty = np.asarray(read_image(path)).astype(int)
        assert not list(find_faults([path], progress=False))
    assert (np.abs(dirty - clean).max(axis=2) > 3).sum() <= 2
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and path in said[0] and f"2 of {values.size}" in said[0]


def test_an_image_without_a_finite_pixel_is_refused(tmp_path):
    path = png_of(tmp_path / "empty.tif", np.full((20, 10), np.nan, np.float32))
    assert_refused(path, "NaN")


@pytest.mark.parametrize("value", [0.0, 0.45, 3e38])
def test_constant_images_stay_constant(tmp_path, value):
    values = np.full((40, 20), value, np.float32)
    assert np.ptp(np.asarray(read_image(png_of(tmp_path / "a.tif", values)))) == 0
    values[0, 0] = np.nan
    assert np.ptp(np.asarray(read_image(png_of(tmp_path / "b.tif", values)))) == 0


def test_few_pixels_over_a_constant_image_are_seen(tmp_path):
    values = np.full((96, 48), 500, np.uint16)
    values[40, 20] = 510
    gray = np.asarray(read_image(png_of(tmp_path / "dot.png", values)))[..., 0]
    assert gray[40, 20] == 255 and gray.sum() == 255


def write_png(path, width, height, depth, kind, rows):
    """A PNG of any header, with the given bytes as its pixel data."""
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in chunks.items():
        checksum = struct.pack(">I", zlib.crc32(name + data))
        content += struct.pack(">I", len(data)) + name + data + checksum
    path.write_bytes(content)


def test_sixteen_bit_colour_is_said(tmp_path, caplog):
    path = tmp_path / "deep.png"  # Pillow writes none
    write_png(path, 2, 2, 16, 2, bytes(2 * (1 + 2 * 6)))
    with caplog.at_level("WARNING", "fastreid.icre"):
        read_image(path)
    assert "deep.png" in caplog.text and "16-bit" in caplog.text


def assert_refused(path, *words):
    """By the reader and by the check, in one line."""
    for read in (lambda: read_image(path), lambda: verify_images([path], progress=False)):
        with pytest.raises(UserError) as caught:
            read()
        said = str(caught.value)
        assert Path(path).name in said and "\n" not in said
        assert all(word in said for word in words), said
    assert [fault for fault, _ in find_faults([path], progress=False)] == [path]


def exif_block(entries: list[tuple[int, int, int, bytes]], after: bytes = b"") -> bytes:
    """(tag, type, count, four bytes of value or offset) in little-endian order."""
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4) + after


TURNED = (274, 3, 1, struct.pack("<HH", 6, 0))
END = struct.pack("<I", 8 + 2 + 2 * 12 + 4)  # where the data after two entries begin
EXIF = {
    "signed rational -1/0": exif_block([TURNED, (37380, 10, 1, END)], struct.pack("<ii", -1, 0)),
    "rational 0/0": exif_block([TURNED, (282, 5, 1, END)], bytes(8)),
    "number for text": exif_block([TURNED, (315, 3, 1, struct.pack("<HH", 7, 0))]),
    "text for number": exif_block([TURNED, (282, 2, 4, b"abc\0")]),
    "offset out of the block": exif_block([TURNED, (37510, 7, 99, struct.pack("<I", 2**31))]),
    "unknown type": exif_block([TURNED, (37510, 99, 9, bytes(4))]),
    "directory at itself": exif_block([TURNED, (34665, 4, 1, struct.pack("<I", 8))]),
    "number for a directory": exif_block([TURNED, (34853, 2, 4, b"abc\0")]),
}
UNREADABLE = {
    "orientation as text": exif_block([(274, 2, 2, b"6\0\0\0")]),
    "orientation 99": exif_block([(274, 3, 1, struct.pack("<HH", 99, 0))]),
    "orientation 6/0": exif_block([(274, 5, 1, struct.pack("<I", 26))], struct.pack("<II", 6, 0)),
    "no header": b"Exif\0\0garbage",
    "empty": b"Exif\0\0",
    "cut off": exif_block([TURNED])[:20],
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("block", EXIF)
def test_of_exif_the_orientation_alone_counts(tmp_path, block, suffix):
    path = str(tmp_path / f"turned.{suffix}")
    Image.new("RGB", (8, 4)).save(path, exif=EXIF[block])
    assert read_image(path).size == (4, 8)
    verify_images([path], progress=False)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("block", UNREADABLE)
def test_an_unreadable_orientation_is_upright(tmp_path, block, suffix):
    path = str(tmp_path / f"upright.{suffix}")
    Image.new("RGB", (8, 4)).save(path, exif=UNREADABLE[block])
    assert read_image(path).size == (8, 4)
    verify_images([path], progress=False)


def test_an_image_in_memory_is_read_the_same_way(tmp_path):
    path = str(tmp_path / "turned.jpg")
    Image.new("RGB", (8, 4)).save(path, exif=EXIF["signed rational -1/0"])
    with Image.open(path) as image:
        assert read_image(image).size == (4, 8)


@pytest.mark.parametrize(
    "format", ["EPS", "GIF", "PCX", "TGA", "ICO", "JPEG2000", "DDS", "AVIF", "PDF", "SGI", "BLP"]
)
def test_formats_that_are_not_listed_are_not_opened(tmp_path, format, monkeypatch):
    def start(*args, **kwargs):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", start)
    monkeypatch.setattr("os.system", start)
    path = str(tmp_path / "person.jpg")
    image = Image.new("P" if format == "BLP" else "RGB", (16, 16))
    try:
        image.save(path, format=format)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow writes no {format}")
    assert_refused(path, "JPEG")
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2])
    assert_refused(path, "JPEG")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp", "ppm", "pgm"])
def test_listed_formats_are_read_whatever_their_name(tmp_path, suffix):
    path, other = tmp_path / f"a.{suffix}", tmp_path / "b.jpg"
    Image.fromarray(GRAY).resize((48, 96)).save(path)
    assert is_image(path.name) and is_image(path.name.upper())
    other.write_bytes(path.read_bytes())
    assert read_image(path).tobytes() == read_image(other).tobytes()
    verify_images([str(path), str(other)], progress=False)
    path.write_bytes(path.read_bytes()[:-40])
    assert_refused(str(path))
    path.write_bytes(b"")
    assert_refused(str(path))


def test_names_of_other_files_do_not_count():
    for name in ("Thumbs.db", "._a.jpg", ".jpg", "a.gif", "a.eps", "jpg", "a.jpg.part"):
        assert not is_image(name)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "nothing.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "folder.jpg", "nothing.jpg", "device.jpg"):
        assert_refused(str(tmp_path / name))
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "a.jpg")
    assert read_image(tmp_path / "link.jpg").size == (8, 4)


def test_an_image_of_too_many_pixels_is_refused_by_its_header(tmp_path, monkeypatch):
    path = str(tmp_path / "huge.png")
    write_png(tmp_path / "huge.png", 13000, 13000, 8, 2, b"")
    with warnings.catch_warnings(record=True):  # pytest undoes the filter of our module
        assert_refused(path, "13000 x 13000", "ICRE_MAX_PIXELS")
    Image.new("1", (3840, 2160)).save(path)  # a frame of a 4K camera
    assert read_image(path).size == (3840, 2160)
    monkeypatch.setattr("icre.utils.image.MAX_PIXELS", 3840 * 2160 - 1)
    assert_refused(path, "3840 x 2160")


@pytest.mark.slow
def test_the_pixel_limit_is_raised_by_the_environment():
    code = "from icre.utils import image; print(image.MAX_PIXELS, image.Image.MAX_IMAGE_PIXELS)"

    def run(value):
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "ICRE_MAX_PIXELS": value},
            capture_output=True,
            text=True,
        )

    assert run("400000000").stdout.split() == ["400000000", "400000000"]
    assert "ICRE_MAX_PIXELS" in run("many").stderr


@pytest.mark.parametrize(("suffix", "format"), [("tif", "TIFF"), ("webp", "WEBP"), ("png", "PNG")])
def test_of_several_frames_the_first_is_read(tmp_path, suffix, format):
    path = str(tmp_path / f"frames.{suffix}")
    frames = [Image.new("RGB", (16, 8), color) for color in ("red", "lime", "blue")]
    frames[0].save(path, format, save_all=True, append_images=frames[1:])
    red, green, blue = np.asarray(read_image(path))[4, 8].tolist()
    assert red > 250 and max(green, blue) < 5
    verify_images([path], progress=False)


def test_names_are_printed_as_one_harmless_line(tmp_path):
    path = str(tmp_path / "a\x1b[2J\nb.jpg")
    Path(path).write_bytes(b"no image")
    for read in (lambda: read_image(path), lambda: verify_images([path], progress=False)):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value).isprintable() and "\\x1b[2J\\nb.jpg" in str(caught.value)


def test_the_onnx_example_reads_as_we_do(tmp_path):
    file = Path(__file__).parents[1] / "projects/ICRE/examples/predict_onnx.py"
    spec = importlib.util.spec_from_file_location("predict_onnx", file)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert set(example.FORMATS) == set(FORMATS) and example.SUFFIXES <= IMAGE_SUFFIXES

    def read(path):
        model = SimpleNamespace(size=read_image(path).size, resize=Image.Resampling.BICUBIC)
        return example.Model.read(model, path)

    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
    for mode in ("RGB", "P", "L", "RGBA"):
        for block in (*EXIF.values(), *UNREADABLE.values()):
            path = str(tmp_path / "a.png")
            Image.fromarray(pixels).convert(mode).save(path, exif=block)
            np.testing.assert_array_equal(read(path), np.asarray(read_image(path)))
    Image.new("RGB", (8, 8)).save(tmp_path / "b.jpg", format="GIF")
    os.mkfifo(tmp_path / "c.jpg")
    for name in ("b.jpg", "c.jpg", "gone.jpg"):
        with pytest.raises(ValueError, match=name):
            example.Model.read(SimpleNamespace(size=(4, 4)), str(tmp_path / name))


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_content_is_decoded_as_the_file_is_read(tmp_path, form):
    path = tmp_path / "image.any"
    Image.fromarray(np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)).save(path, form)
    image, found = decode_image(path.read_bytes())
    assert found == form
    np.testing.assert_array_equal(np.asarray(image), np.asarray(read_image(path)))
    with pytest.raises(UserError, match="7 x 5 pixels exceed the limit of 34 pixels"):
        decode_image(path.read_bytes(), most=34)
    with pytest.raises(UserError, match="cannot read the image: "):
        decode_image(path.read_bytes()[:20])


def test_a_jpeg_of_several_pictures_is_a_jpeg(tmp_path):
    one, two = (Image.new("RGB", (8, 4), colour) for colour in ("red", "blue"))
    one.save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=[two])
    image, form = decode_image((tmp_path / "two.jpg").read_bytes())
    assert form == "JPEG" and image.size == (8, 4) and image.getpixel((0, 0))[0] > 200
