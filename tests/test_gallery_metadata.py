"""What is known of images: times, patterns, attributes, boxes, and filters by them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from icre.gallery.boxes import read_boxes
from icre.gallery.columns import Coded, Columns, Texts
from icre.gallery.filters import Filter
from icre.gallery.images import collect
from icre.gallery.pattern import Pattern
from icre.gallery.table import NO_TIME, ImageTable
from icre.gallery.times import parse_time
from icre.utils.choice import natural
from icre.utils.errors import UserError
from icre.utils.image import Crop, find_faults, read_image

COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 1, "category_id": 7, "bbox": [2, 3, 4, 8], "score": 0.9},
        {"image_id": 2, "category_id": 7, "bbox": [0.4, 0, 3.2, 5]},
        {"image_id": 2, "category_id": 8, "bbox": [1, 1, 2, 2]},
    ],
    "categories": [{"id": 7, "name": "person"}, {"id": 8, "name": "bag"}],
}


def picture(path: Path, size: tuple[int, int] = (20, 30)) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return str(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01T18:00", "2026-11-01T18:00:00"),
        ("2026-11-01", "2026-11-01T00:00:00"),
        ("20261101", "2026-11-01T00:00:00"),
        ("2026-11-01T18:00:00Z", "2026-11-01T18:00:00"),
        ("2026-11-01T18:00+02:00", "2026-11-01T16:00:00"),
        ("2026-11-01 18:00:00.25", "2026-11-01T18:00:00.25"),
        ("1793642400", "2026-11-02T18:00:00"),
        ("1793642400.5", "2026-11-02T18:00:00.5"),
        ("0", "1970-01-01T00:00:00"),
    ],
)
def test_times(text, expected):
    """Without a zone it is UTC."""
    assert parse_time(text, "x") == np.datetime64(expected, "us")


@pytest.mark.parametrize(
    "text", ["", "yesterday", "18:00", "2026-13-01", "1793642400000", "1e3", "nan", "01.11.2026"]
)
def test_what_is_no_time(text):
    with pytest.raises(UserError, match=r"t\.csv, line 2: .*is no time: write ISO 8601"):
        parse_time(text, "t.csv, line 2")


@pytest.mark.parametrize(
    ("text", "date"), [("2026", "2026-01-01"), ("202611", "2026-11-01"), ("1999", "1999-01-01")]
)
def test_a_year_or_month_alone_is_no_time(text, date):
    with pytest.raises(UserError, match=f"x: '{text}' is no time: write {date}") as caught:
        parse_time(text, "x")
    assert "\n" not in str(caught.value)
    assert parse_time(f"{text}.0", "x") == np.datetime64(int(text), "s")


def test_a_pattern_reads_the_end_of_a_path():
    pattern = Pattern("{camera}/{time:%Y%m%d_%H%M%S}.jpg")
    assert pattern.read("/a/b/door 2/20261101_180005.jpg") == {
        "camera": "door 2",
        "time": np.datetime64("2026-11-01T18:00:05", "us"),
    }
    pattern = Pattern("c{camera}s{scene}_*_{identity}.*")
    found = pattern.read("/x/c3s1_000551_0042.jpg")
    assert found == {"camera": "3", "scene": "1", "identity": "0042"}
    daily = Pattern("{time:%Y/%m/%d}/{shift}/*.png").read("/a/2026/11/01/night/x.png")
    assert daily == {"time": np.datetime64("2026-11-01", "us"), "shift": "night"}
    zone = Pattern("{time:%Y-%m-%dT%H%M%z}.jpg").read("2026-11-01T1800+0200.jpg")
    assert zone["time"] == np.datetime64("2026-11-01T16:00", "us")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x.jpg", "names no field"),
        ("{camera}/{camera}.jpg", "camera is there twice"),
        ("{time}.jpg", "takes a format"),
        ("{camera:%Y}.jpg", "takes a format"),
        ("{time:%Q}.jpg", "%Q is not read"),
        ("{}.jpg", "no name of a field"),
        ("{a b}.jpg", "no name of a field"),
        ("{camera!r}.jpg", "no name of a field"),
        ("{camera.jpg", "--pattern"),
        ("{path}.jpg", "not read from a path"),
        ("{__class__.__name__}", "no name of a field"),
    ],
)
def test_bad_patterns(text, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        Pattern(text)
    assert "\n" not in str(caught.value) and text in str(caught.value)


def test_a_path_that_does_not_fit_is_named():
    pattern = Pattern("{camera}/{time:%Y%m%d}.jpg")
    for path in ("/a/b.jpg", "20261101.jpg", "/a/20261101.png"):
        with pytest.raises(UserError, match=f"{path} does not end as"):
            pattern.read(path)
    with pytest.raises(UserError, match=r"/a/20261301\.jpg: --pattern"):
        pattern.read("/a/20261301.jpg")
    pattern = Pattern("{time:%Y%m%d%z}.jpg")
    with pytest.raises(UserError, match=r"/a/00010101\+0100\.jpg: --pattern"):
        pattern.read("/a/00010101+0100.jpg")  # before the year 1 in UTC


def test_table_pattern_and_layout_in_this_order(tmp_path):
    path = picture(tmp_path / "cam3/0007/20261101.jpg")
    other = picture(tmp_path / "cam3/0007/20261102.jpg")
    table = tmp_path / "t.csv"
    table.write_text(
        "path,camera,time,weather,split\n"
        f"{path},door,2026-11-05T10:00+01:00,rain,test\n{other},,,,\n"
    )
    pattern = Pattern("{identity}/{time:%Y%m%d}.jpg")
    found = collect([table], None, pattern)
    assert found.row(0) == {
        "path": path,
        "modality": "infrared",
        "camera": "door",
        "identity": "0007",
        "time": "2026-11-05T09:00:00.000000Z",
        "attributes": {"weather": "rain", "split": "test"},
    }
    assert found.row(1) == {
        "path": other,
        "modality": "infrared",
        "camera": "3",
        "identity": "0007",
        "time": "2026-11-02T00:00:00.000000Z",
    }


def test_a_misspelt_column_is_no_attribute(tmp_path):
    path = picture(tmp_path / "a.jpg")
    table = tmp_path / "t.csv"
    for column, meant in (("Camera", "camera"), ("times", "time"), ("pid", "identity")):
        table.write_text(f"path,modality,{column}\n{path},visible,1\n")
        with pytest.raises(UserError, match=f"unknown column '{column}' .do you mean {meant}"):
            collect([table])
    table.write_text(f"path,modality,time\n{path},visible,noon\n")
    with pytest.raises(UserError, match=r"t\.csv, line 2: 'noon' is no time"):
        collect([table])


def filtered() -> Columns:
    time = np.array(["2026-11-01", "2026-11-02", "2026-11-03", "NaT"], "M8[us]")
    return Columns.of(
        ImageTable(
            ["/a/1.jpg", "/a/2.jpg", "/b/[1].jpg", "/b/2.jpg"],
            np.array([0, 1, 0, 1]),
            ["1", "10", "", "2"],
            ["Ann", "Bob", "Ann", ""],
            time,
            None,
            {"shift": ["day", "", "day", "night"]},
        )
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"camera": ["1", "2"]}, [0, 3]),
        ({"not_camera": ["1"]}, [1, 2, 3]),
        ({"identity": ["Ann"], "not_camera": ["1"]}, [2]),
        ({"after": "2026-11-02"}, [1, 2]),
        ({"before": "2026-11-02T00:00"}, [0]),
        ({"after": "2026-11-02", "before": "2026-11-03T00:00:01"}, [1, 2]),
        ({"modality": ["infrared"]}, [1, 3]),
        ({"where": ["shift=day"]}, [0, 2]),
        ({"where": ["shift=day", "shift=night"]}, [0, 2, 3]),
        ({"path": ["/a/*", "*/[[]1].jpg"]}, [0, 1, 2]),
        ({"path": ["/A/*"]}, []),
    ],
)
def test_filters(options, expected):
    filter, part = Filter.parse(**options), filtered()
    filter.check([part], "g")
    assert np.flatnonzero(filter.mask(part)).tolist() == expected
    assert bool(filter) == bool(options)
    for option in options:
        assert f"--{option.replace('_', '-')} " in str(filter)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"camera": ["3"]}, "--camera 3: no image of gallery g has it; there is 1, 2, 10"),
        ({"not_camera": ["x"]}, "--camera x: no image"),
        ({"identity": ["Eve"]}, "--identity Eve: no image of gallery g has it; there is Ann, Bob"),
        ({"where": ["shft=day"]}, "no attribute 'shft'; it has shift"),
        ({"where": ["shift=noon"]}, "--where shift= noon: no image of gallery g has it; there is"),
        ({"where": ["shift"]}, "--where shift: write KEY=VALUE"),
        ({"where": ["=x"]}, "write KEY=VALUE"),
        ({"after": "noon"}, "--after: 'noon' is no time"),
        ({"after": "2026-11-02", "before": "2026-11-01"}, "is not before"),
        ({"modality": ["night"]}, "modality 'night' is none of"),
    ],
)
def test_filters_that_no_image_can_meet(options, said):
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        Filter.parse(**options).check([filtered()], "g")
    assert "\n" not in str(caught.value)


def test_an_attribute_that_some_parts_do_not_have_is_empty_there():
    """As of a gallery that was indexed before the attribute was known."""
    old = Columns.of(ImageTable(["/a/3.jpg"], np.zeros(1, int), [""], [""]))
    full = filtered().take(np.array([0, 2]))
    filter = Filter.parse(where=["shift="])
    filter.check([full, old], "g")
    assert [filter.mask(part).tolist() for part in (full, old)] == [[False, False], [True]]
    with pytest.raises(UserError, match="--where shift= : no image"):
        filter.check([full], "g")


def test_one_of_very_many_names_is_suggested():
    names = [f"person {number}" for number in range(300)]
    part = Columns.of(ImageTable(names, np.zeros(300, int), [""] * 300, names))
    with pytest.raises(UserError, match=r"there is person 11\b.* and 297 more"):
        Filter(identity=("persn 11",)).check([part], "g")


def test_names_are_listed_in_the_order_of_their_numbers():
    names = ["10", "2", "cam10", "cam2b", "cam2", "", "007", "6" * 5000, "é", "cam"]
    expected = ["", "2", "007", "10", "6" * 5000, "cam", "cam2", "cam2b", "cam10", "é"]
    assert sorted(names, key=natural) == expected


def test_columns_keep_texts_of_any_kind():
    texts = ["", "ä", "a\nb", "\udcff", "", "x" * 1000]
    column = Texts.of(texts)
    assert list(column) == texts and [column[n] for n in range(6)] == texts
    assert list(column.take(np.array([1, 3, 5]))) == [texts[1], texts[3], texts[5]]
    assert list(column.take(np.array([], dtype=int))) == [] and column[-1] == texts[-1]
    coded = Coded.of(["a", "b", "a", "c"]).take(np.array([0, 2, 3]))
    assert list(coded) == ["a", "a", "c"] and list(coded.names) == ["a", "c"]


def test_crops():
    crop = Crop("p", 18, 25, 10, 10)
    assert crop.inside((20, 30)) == (18, 25, 20, 30)
    for box in ((20, 0, 5, 5), (-5, 0, 5, 5), (0, 30, 1, 1)):
        with pytest.raises(ValueError, match="no area inside the image of 20 x 30"):
            Crop("p", *box).inside((20, 30))


def test_a_crop_is_read_from_its_file(tmp_path):
    path = picture(tmp_path / "a.png")
    whole = np.asarray(read_image(path))
    assert (np.asarray(read_image(Crop(path, 2, 3, 4, 8))) == whole[3:11, 2:6]).all()
    assert read_image(Crop(path, -3, -3, 8, 8)).size == (5, 5)
    outside = Crop(path, 20, 0, 5, 5)
    with pytest.raises(UserError, match=r"a\.png, box 20,0,5,5: the box has no area"):
        read_image(outside)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown 30 x 20
    Image.new("RGB", (20, 30)).save(turned, exif=exif)
    boxes = [Crop(str(turned), 25, 10, 5, 5), Crop(str(turned), 10, 25, 5, 5), outside, path]
    assert [(str(crop), fault) for crop, fault in find_faults(boxes, progress=False)] == [
        (str(outside), "the box has no area inside the image of 20 x 30"),
        (str(boxes[1]), "the box has no area inside the image of 30 x 20"),
    ]


@pytest.fixture
def frames(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture(tmp_path / "cam3/0001" / name)
    return tmp_path / "cam3"


def test_boxes_of_coco_annotations(frames):
    file = frames / "boxes.json"
    file.write_text(json.dumps(COCO))
    table = collect([frames], boxes=file)
    assert [(Path(path).name, *box) for path, box in zip(table.paths, table.boxes.tolist())] == [
        ("a.jpg", 2, 3, 4, 8),
        ("b.jpg", 0, 0, 4, 5),
    ]
    assert table.cameras == ["3", "3"] and table.row(0)["attributes"] == {"score": "0.9"}
    assert table.sources()[0] == Crop(table.paths[0], 2, 3, 4, 8)
    assert np.isnat(table.times).all() and NO_TIME != NO_TIME


def test_boxes_of_coco_results_and_of_a_table(frames):
    picture(frames / "0001/000000012.jpg")
    file = frames / "results.json"
    results = [
        {"image_id": 12, "category_id": 1, "bbox": [1, 1, 5, 5], "score": 0.5},
        {"image_id": "0001/a.jpg", "category_id": 1, "bbox": [1, 1, 5, 5], "score": 1},
        {"image_id": 12, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 0.5},
    ]
    file.write_text(json.dumps(results))
    assert [Path(path).name for path in collect([frames], boxes=file).paths] == [
        "000000012.jpg",
        "a.jpg",
    ]
    file = frames / "boxes.csv"
    file.write_text("image,x,y,w,h,identity,track\n0001/a.jpg,1,2,3,4,Ann,9\na.jpg,5,5,6,6,,\n")
    table = collect([frames], boxes=file)
    assert table.identities == ["Ann", "sysu 1"] and table.boxes[1].tolist() == [5, 5, 6, 6]
    assert table.row(0)["attributes"] == {"track": "9"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image,x,y,w,h\nz.jpg,1,2,3,4\n", r"line 2: image z\.jpg is none of the 3 images"),
        ("image,x,y,w,h\na.jpg,1,2,0,4\n", "line 2: the box 1,2,0,4 has no area"),
        ("image,x,y,w,h\na.jpg,1,2,-3,4\n", "has no area"),
        ("image,x,y,w,h\na.jpg,1,2,nan,4\n", "line 2: .* is no box"),
        ("image,x,y,w,h\na.jpg,1,2,wide,4\n", "line 2: .* is no box"),
        ("image,x,y,w,h\na.jpg,1,2,,4\n", "line 2: w is blank"),
        ("image,x,y,w\na.jpg,1,2,3\n", "no column h"),
        ("image,x,y,w,h\n", "holds no box of a person"),
        ("image,x,y,w,h,time\na.jpg,1,2,3,4,noon\n", "line 2: 'noon' is no time"),
        ([1], "results is no list of objects"),
        ({"images": []}, "annotations is no list"),
        (COCO | {"categories": [{"id": 1, "name": "bag"}]}, "categories has no person"),
        (COCO | {"images": [{"id": 1}]}, "no id or no file_name"),
        (COCO | {"images": COCO["images"][:1]}, "entry 1: image_id 2 is none of"),
        ([{"image_id": "a.jpg", "bbox": [1, 2, 3]}], "entry 0: bbox is not"),
        ([{"image_id": "a.jpg", "bbox": [1, 2, 3, "4x"]}], "entry 0: .* is no box"),
        ([{"image_id": "a.jpg", "bbox": [1, 2, 3, True]}], "is no box"),
        ([{"image_id": [], "bbox": [1, 2, 3, 4]}], "image_id is no number"),
        ([{"image_id": "0001", "bbox": [1, 2, 3, 4]}], "image 0001 is none of"),
        ("{", "no JSON"),
    ],
)
def test_bad_boxes_are_one_line(frames, content, said):
    is_table = isinstance(content, str) and content != "{"
    file = frames / ("boxes.csv" if is_table else "boxes.json")
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=said) as caught:
        collect([frames], boxes=file)
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_boxes_of_no_file_or_of_an_image_that_is_there_twice(frames, tmp_path):
    picture(frames / "0002/a.jpg")
    file = frames / "boxes.csv"
    file.write_text("image,x,y,w,h\na.jpg,1,2,3,4\n")
    with pytest.raises(UserError, match=r"image a\.jpg is 2 of the 4 images"):
        collect([frames], boxes=file)
    for name in ("none.json", "boxes.xml"):
        with pytest.raises(UserError, match=f"--boxes .*{name}"):
            read_boxes(tmp_path / name)
