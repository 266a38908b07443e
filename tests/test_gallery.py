"""The gallery's folder: reading images, writing and opening it, shards, calibration."""

import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pytest
from PIL import Image

from icre.gallery import changes, shards
from icre.gallery import index as indexes
from icre.gallery.calibration import Calibration, calibrate
from icre.gallery.images import collect, contradictions
from icre.gallery.parquet_shards import ParquetShard
from icre.gallery.staging import MARKER, staging
from icre.gallery.store import open_gallery
from icre.gallery.table import ImageTable
from icre.gallery.writing import write
from icre.inference.extractor import normalize
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError
from small_galleries import MODEL, change, images_of, old_gallery, small_gallery, unit


def picture(path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 8)).save(path)
    return str(path)


def test_what_is_written_is_read(tmp_path):
    gallery = small_gallery(tmp_path / "g")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g"]
    assert [gallery.images.row(row) for row in range(12)] == [
        images_of(12).row(row) for row in range(12)
    ]
    np.testing.assert_array_equal(gallery.features, unit(12))
    rows, similarity = gallery.nearest(unit(12)[3:5], 3)
    assert rows[:, 0].tolist() == [3, 4] and similarity[:, 0] == pytest.approx([1, 1], abs=1e-6)
    with pytest.raises(UserError, match=r"m2\.pth.*model\.pth"):
        gallery.check_model("b" * 64, "m2.pth")
    gallery.check_model("a" * 64, "moved.pth")


@pytest.mark.parametrize("name", ["images.csv", "features.npy", "index.faiss", "config.yaml"])
def test_a_damaged_file_of_format_1_is_named(tmp_path, name):
    old_gallery(tmp_path / "g")
    file = tmp_path / "g" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"damaged: {name}"):
        open_gallery(tmp_path / "g")
    file.unlink()
    with pytest.raises(UserError, match=rf"{name} is missing"):
        open_gallery(tmp_path / "g")


def test_a_damaged_manifest_and_what_is_no_gallery_are_told_apart(tmp_path):
    small_gallery(tmp_path / "g")
    manifest = tmp_path / "g" / "gallery.json"
    stored = json.loads(manifest.read_text())
    for text in (manifest.read_text()[:50], "[]", json.dumps(stored | {"images": 11})):
        manifest.write_text(text)
        with pytest.raises(UserError, match=r"damaged: gallery\.json"):
            open_gallery(tmp_path / "g")
    manifest.unlink()
    with pytest.raises(UserError, match=r"gallery\.json is missing"):
        open_gallery(tmp_path / "g")
    with pytest.raises(UserError, match="none is no gallery"):
        open_gallery(tmp_path / "none")
    (tmp_path / "h.partial").mkdir()
    with pytest.raises(UserError, match="h is unfinished"):
        open_gallery(tmp_path / "h")


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_gallery_of_format_1_opens(tmp_path, kind):
    """The manifest's key is `seal`, as it has always been."""
    opened = open_gallery(old_gallery(tmp_path / "g", 100, kind))
    assert [opened.images.row(n) for n in range(100)] == [images_of(100).row(n) for n in range(100)]
    rows, similarity = opened.nearest(unit(100)[3:5], 3)
    assert rows[:, 0].tolist() == [3, 4] and similarity[:, 0] == pytest.approx([1, 1], abs=1e-6)
    assert opened.version == 0 and opened.is_current()
    manifest = tmp_path / "g" / "gallery.json"
    stored = json.loads(manifest.read_text())
    content = json.dumps({key: stored[key] for key in stored if key != "seal"}, sort_keys=True)
    assert stored["seal"] == hashlib.sha256(content.encode()).hexdigest()
    assert open_gallery(tmp_path / "g").calibrations == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("files", {}),
        ("files", None),
        ("files", {"../x": "a" * 64}),
        ("files", dict.fromkeys(["images.csv", "features.npy", "index.faiss", "x"], "a" * 64)),
        ("files", dict.fromkeys(["images.csv", "features.npy", "index.faiss", "config.yaml"], 1)),
        ("images", "12"),
        ("images", True),
        ("images", 10**30),
        ("images", 11),
        ("dimensions", -1),
        ("dimensions", 8),
        ("index", "tree"),
        ("index", ["flat"]),
        ("index", "hnsw"),
        ("model", "a"),
        ("model", {"weights": "m", "sha256": 1}),
        ("skipped", [["a"]]),
        ("made", 1),
        ("calibrations", []),
        ("calibrations", {"night": {}}),
        ("calibrations", {"visible": []}),
        ("calibrations", {"visible": {"impostor": []}}),
        ("format", [1]),
        ("format", 3),
        ("format", True),
    ],
)
def test_a_manifest_of_format_1_with_a_valid_checksum_is_checked_too(tmp_path, key, value):
    old_gallery(tmp_path / "g")
    change(tmp_path / "g", **{key: value})
    with pytest.raises(UserError, match="index again") as caught:
        open_gallery(tmp_path / "g")
    assert "\n" not in str(caught.value) and str(tmp_path / "g") in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("impostor", ["0.5"]),
        ("impostor", []),
        ("impostor", [float("nan")]),
        ("genuine", None),
        ("beaten", [1]),
        ("beaten", [True, True]),
        ("people", 1.5),
        ("source", 1),
        ("held_out", "no"),
        ("extra", 1),
    ],
)
def test_stored_calibrations_are_checked(tmp_path, field, value):
    valid = Calibration([0.5], [0.6], [False], 1, "others", True).as_dict()
    small_gallery(tmp_path / "g")
    change(tmp_path / "g", calibrations={"visible": valid})
    assert open_gallery(tmp_path / "g").calibrations["visible"].people == 1
    change(tmp_path / "g", calibrations={"visible": valid | {field: value}})
    with pytest.raises(UserError, match=rf"calibrations of visible.*{field}"):
        open_gallery(tmp_path / "g")


def write_index(index):
    return lambda path: faiss.write_index(index, str(path))


def with_ids() -> faiss.Index:
    index = faiss.index_factory(16, "IDMap,Flat", faiss.METRIC_INNER_PRODUCT)
    index.add_with_ids(unit(12), np.arange(12) + 1000)
    return index


FAULTS = {
    "index.faiss": [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"IxFI" + b"\xff" * 100),
        write_index(indexes.build("flat", unit(13), False)),
        write_index(indexes.build("flat", unit(12, 8), False)),
        write_index(indexes.build("hnsw", unit(12), False)),
        write_index(faiss.IndexFlatL2(16)),
        write_index(with_ids()),
    ],
    "features.npy": [
        lambda path: np.save(path, unit(13)),
        lambda path: np.save(path, unit(12, 8)),
        lambda path: np.save(path, unit(12).astype(float)),
        lambda path: np.save(path, unit(12) * np.float32("nan")),
        lambda path: np.save(path, unit(12) * 2),
        lambda path: np.save(path, np.array([{}] * 12), allow_pickle=True),
        lambda path: path.write_bytes(path.read_bytes()[:-4]),
        lambda path: path.write_bytes(b""),
        lambda path: np.savez(open(path, "wb"), unit(12)),  # noqa: SIM115
        # no end of a tuple: an error of Python's tokenizer
        lambda path: path.write_bytes(path.read_bytes().replace(b"}", b"(", 1)),
    ],
    "images.csv": [
        lambda path: path.write_text(path.read_text().replace("visible", "night", 1)),
        lambda path: path.write_text(path.read_text().replace("identity", "pid")),
        lambda path: path.write_text(path.read_text() + "/images/12.jpg,visible,1,2\n"),
        lambda path: path.write_text(path.read_text() + "/images/12.jpg,visible\n"),
        lambda path: path.write_text(path.read_text() + '"'),
        lambda path: path.write_text(""),
    ],
}


@pytest.mark.parametrize(
    ("name", "number"), [(name, n) for name, faults in FAULTS.items() for n in range(len(faults))]
)
def test_files_of_format_1_with_a_valid_checksum_are_checked_too(tmp_path, name, number):
    old_gallery(tmp_path / "g")
    FAULTS[name][number](tmp_path / "g" / name)
    change(tmp_path / "g")
    with pytest.raises(UserError, match=rf"damaged: .*{name}.*index again") as caught:
        open_gallery(tmp_path / "g")
    assert "\n" not in str(caught.value)


def test_an_index_that_names_other_rows_is_refused():
    index = with_ids()
    with pytest.raises(UserError, match=r"10.*12"):
        indexes.nearest("flat", index, unit(12), unit(2), 3)


@pytest.mark.parametrize("kind", ["files", "marker", "link", "file", "empty link"])
def test_a_folder_of_the_users_is_never_removed(tmp_path, kind):
    path = tmp_path / "photos.partial"
    if kind == "file":
        path.write_text("mine")
    elif kind in ("link", "empty link"):
        (tmp_path / "real").mkdir()
        path.symlink_to("real")
    else:
        path.mkdir()
    if kind in ("files", "link"):
        (path / "shards").mkdir()
        picture(path / "shards" / "a.jpg")
    if kind == "marker":
        (path / MARKER).write_text("something else")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"photos\.partial is in the way"):
        small_gallery(tmp_path / "photos")
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_user_puts_into_our_staging_folder_stays(tmp_path):
    with staging(tmp_path / "g"):
        picture(tmp_path / "g.partial" / "mine.jpg")
    small_gallery(tmp_path / "g")
    assert [path.name for path in (tmp_path / "g.partial").iterdir()] == ["mine.jpg"]


def test_two_cannot_index_into_one_folder(tmp_path):
    with staging(tmp_path / "g"), pytest.raises(UserError, match=r"--out.*g\.partial"):
        small_gallery(tmp_path / "g")
    assert list(tmp_path.iterdir()) == []
    small_gallery(tmp_path / "g")
    with pytest.raises(UserError, match=r"--out.*g exists"):
        small_gallery(tmp_path / "g")


def full_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_indexing_goes_on(tmp_path):
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from test_gallery import small_gallery\n"
        "from icre.utils import cli\n"
        "sys.exit(cli.run(lambda: small_gallery(Path(sys.argv[1]), 4000) and 0))"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "g"), str(Path(__file__).parent)]
    failed = subprocess.run(words, capture_output=True, text=True, preexec_fn=full_disk)
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1, failed.stderr
    assert "cannot write gallery" in failed.stderr and not (tmp_path / "g").exists()
    assert subprocess.run(words).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_an_interrupted_write_leaves_no_gallery(tmp_path):
    with pytest.raises(ValueError, match="5 features for 12"):
        write(tmp_path / "g", images_of(12), [unit(5)], MODEL, "flat", progress=False)
    assert not (tmp_path / "g").exists()
    small_gallery(tmp_path / "g")  # and the next one is not in its way


@pytest.mark.parametrize("kind", list(indexes.KINDS))
def test_every_kind_finds_images_with_exact_similarities(tmp_path, kind):
    features = unit(600)
    gallery = small_gallery(tmp_path / "g", 600, kind)
    queries = unit(40, seed=1)
    rows, similarity = gallery.nearest(queries, 10)
    assert rows.shape == (40, 10) and (np.diff(similarity, axis=1) <= 1e-6).all()
    found = rows >= 0
    exact = np.take_along_axis(queries @ features.T, np.where(found, rows, 0), 1)
    np.testing.assert_allclose(similarity[found], exact[found], atol=1e-6)
    truth = np.argsort(-(queries @ features.T), axis=1)[:, :10]
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(rows, truth)])
    assert shared == 1 if kind == "flat" else shared > 0.8


def test_more_effort_finds_more_and_all_cells_find_all():
    features, queries = unit(600), unit(40, seed=1)
    index = indexes.build("ivf", features, progress=False)
    truth = np.argsort(-(queries @ features.T), axis=1)[:, :1]

    def recall(effort: int) -> float:
        indexes.set_effort("ivf", index, effort)
        return float((indexes.nearest("ivf", index, features, queries, 1)[0] == truth).mean())

    assert recall(1) < recall(index.nlist) == 1


def test_a_gallery_smaller_than_the_number_of_matches():
    features = unit(3)
    for kind in ("flat", "ivf", "hnsw"):
        index = indexes.build(kind, features, progress=False)
        rows, _ = indexes.nearest(kind, index, features, features, 10)
        assert rows.shape == (3, 3) and set(rows.ravel()) == {0, 1, 2}
    with pytest.raises(UserError, match="ivfpq needs 256"):
        indexes.build("ivfpq", features)
    with pytest.raises(UserError, match=r"tree.*flat, ivf, hnsw"):
        indexes.build("tree", features)


def test_the_index_survives_its_file(tmp_path):
    index = indexes.build("hnsw", unit(50), progress=False)
    faiss.write_index(index, str(tmp_path / "i"))
    assert faiss.read_index(str(tmp_path / "i")).hnsw.efSearch == index.hnsw.efSearch == 512


def test_sources_of_every_kind(tmp_path, monkeypatch):
    for name in ("cam3/0007/0002.jpg", "cam3/0007/0001.PNG", "cam1/0007/0001.jpg"):
        picture(tmp_path / "tree" / name)
    (tmp_path / "tree/cam1/0007/Thumbs.db").write_bytes(b"no image")
    (tmp_path / "tree/cam1/0007/._0001.jpg").write_bytes(b"no image")
    plain = picture(tmp_path / "x y.jpg")
    found = collect([tmp_path / "tree", tmp_path / "tree/cam1"])
    assert [path.rsplit("tree/", 1)[1] for path in found.paths] == [
        "cam1/0007/0001.jpg",
        "cam3/0007/0001.PNG",
        "cam3/0007/0002.jpg",
    ]
    assert found.modalities.tolist() == [VISIBLE, INFRARED, INFRARED]
    assert found.row(1) | {"path": ""} == {
        "path": "",
        "modality": "infrared",
        "camera": "3",
        "identity": "sysu 7",
    }
    monkeypatch.chdir(tmp_path)
    (tmp_path / "l.txt").write_text("\ufefftree/cam3/0007/0002.jpg\n\n  x y.jpg\n")
    assert collect(["l.txt"], "visible").paths == [found.paths[2], plain]
    (tmp_path / "t.csv").write_text(
        'path,identity,modality,camera\n"x y.jpg",Ada,infrared,door\ntree/cam1/0007/0001.jpg,,,\n'
    )
    table = collect(["t.csv"])
    assert table.row(0) == {
        "path": plain,
        "modality": "infrared",
        "camera": "door",
        "identity": "Ada",
    }
    assert table.row(1)["identity"] == "sysu 7" and table.modalities.tolist() == [1, 0]


def test_what_is_said_wins_over_the_layout_and_is_reported(tmp_path):
    path = picture(tmp_path / "cam3" / "0001" / "0001.jpg")
    assert collect([path], "visible").modalities.tolist() == [VISIBLE]
    assert contradictions(collect([path], "visible")) == [path]
    assert contradictions(collect([path])) == []


def test_bad_sources_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = picture(tmp_path / "a.jpg")
    (tmp_path / "empty").mkdir()
    for name, content in {
        "l.txt": "a.jpg\nb.jpg\n",
        "m.csv": "path,modality\na.jpg,night\n",
        "n.csv": "file\na.jpg\n",
    }.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "movie.bin").write_bytes(b"\xff\xfe\xfd")
    for source, message in {
        plain: r"a\.jpg.*modality",
        "l.txt": r"l\.txt, line 2: b\.jpg",
        "none": "none is missing",
        "m.csv": r"m\.csv, line 2.*night",
        "n.csv": r"n\.csv, line 1: .*'file'.*path",
        "empty": "holds no image",
        "movie.bin": r"movie\.bin, line 1",
    }.items():
        with pytest.raises(UserError, match=message):
            collect([source], None if source in (plain, "m.csv") else "visible")


def test_linked_folders_are_followed_once(tmp_path, caplog):
    disk, root = tmp_path / "disk", tmp_path / "root"
    for name in ("0001/a.webp", "0002/b.PFM", "0002/c.jpe"):
        picture(disk / name) if name.endswith("webp") else (disk / name).parent.mkdir(exist_ok=True)
    shutil.copy(disk / "0001/a.webp", disk / "0002/b.PFM")  # the content decides the format
    shutil.copy(disk / "0001/a.webp", disk / "0002/c.jpe")
    picture(root / "own" / "d.jpg")
    (root / "cam1").symlink_to(disk)
    (root / "cam2").symlink_to(disk)  # the same again
    (root / "alias").symlink_to("own")
    (root / "own" / "up").symlink_to(root)
    (disk / "0001" / "back").symlink_to(root)
    (disk / "0001" / "self").symlink_to("self")
    for name in ("notes.txt", "x.xcf", ".hidden.txt"):
        (root / name).write_text("")
    found = [path.removeprefix(f"{root}/") for path in collect([root], "visible").paths]
    assert found == ["cam1/0001/a.webp", "cam1/0002/b.PFM", "cam1/0002/c.jpe", "own/d.jpg"]
    (warning,) = caplog.messages
    assert "3 files are skipped" in warning  # the loop too
    caplog.clear()
    assert len(collect([root / "own"], "visible")) == 1 and not caplog.messages


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_any_spreadsheet(tmp_path, separator, mark, end):
    path = picture(tmp_path / "a, b; c.jpg")
    lines = [["path", " modality", "identity "], [f'"{path}"', " infrared ", "Ada"], ["", "", ""]]
    table = tmp_path / ("t.tsv" if separator == "\t" else "t.csv")
    text = mark + end.join(separator.join(line) for line in lines) + end + end
    table.write_bytes(text.encode())
    assert collect([table]).row(0) == {
        "path": path,
        "modality": "infrared",
        "camera": "",
        "identity": "Ada",
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,pid\nA,1\n", r"line 1: .*'pid'.*identity"),
        ("path,modalty\nA,visible\n", r"line 1: .*'modalty'.*modality"),
        ("Path,modality\nA,visible\n", r"line 1: .*'Path'.*path"),
        ("path,modality,\nA,visible,\n", "line 1: unknown column ''"),
        ("path,camera,camera\nA,1,2\n", "line 1: column camera is there 2 times"),
        ("modality\nvisible\n", "line 1: .*no column path"),
        ("", "line 1"),
        ("path,modality\nA,\n", "line 2: modality is blank"),
        ("path,modality\nA,  \n", "line 2: modality is blank"),
        ("path,modality\n\nA,visible,3\n", "line 3: 3 cells"),
        ("path,modality\nA\n", "line 2: 1 cells"),
        ("path,modality\n,visible\n", "line 2: no path"),
        ("path,modality\nnone.jpg,visible\n", r"line 2: none\.jpg"),
        ("path,modality\nA,Visible light\n", "line 2: modality 'Visible light'"),
        ("path,modality\nA,visible\nA,infrared\n", "line 3: .*'visible'.*'infrared'"),
        ("path,modality,identity\nA,visible,\nA,visible,Bob\n", "line 3: .*identity.*'Bob'"),
        ('path,modality\n"A,visible\n', "line 2"),
        (b"path,modality,identity\nA,visible,\xc4da\n", "line 2: no UTF-8"),
        ("path,modality\nA,visible\n".encode("utf-16"), "line 1: no UTF-8"),
        (b"path," + b"x" * 100_000, "line 1: no UTF-8"),
    ],
)
@pytest.mark.parametrize("modality", [None, "visible"])
def test_faulty_tables_are_refused_by_line(tmp_path, content, said, modality):
    content = content.encode() if isinstance(content, str) else content
    path = picture(tmp_path / "a.jpg").encode()
    table = tmp_path / "t.csv"
    table.write_bytes(content.replace(b"A", path) if b"\0" not in content else content)
    with pytest.raises(UserError, match=said) as caught:
        collect([table], modality)
    assert str(caught.value).startswith(f"{table}, line ") and "\n" not in str(caught.value)


def test_a_pipe_is_no_source(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is no regular file"):
        collect([tmp_path / "pipe"])


def test_names_that_are_not_utf8_are_kept(tmp_path):
    name = os.fsdecode(b"\xd0\xa6\xff, \n.jpg")
    images = collect([picture(tmp_path / name)], "visible")
    write(tmp_path / "g", images, [unit(1)], MODEL, "flat", progress=False)
    opened = open_gallery(tmp_path / "g").images
    assert opened.row(0)["path"] == opened.paths[0] == str(tmp_path / name)


def shard_table(tmp_path, count: int = 7) -> ImageTable:
    return collect([picture(tmp_path / f"{n}.jpg") for n in range(count)], "visible")


KINDS = pytest.mark.parametrize("kind", [shards.Shard, ParquetShard])


@KINDS
@pytest.mark.parametrize("batch", [1, 2, 5, 7])
def test_shards_keep_the_order_for_any_batch_size(tmp_path, batch, kind):
    images, features = shard_table(tmp_path), unit(7)
    planned = shards.plan(tmp_path / "s", images, "model", 3, kind)
    faults = {3: "broken", 4: "broken", 5: "broken: too"}  # a shard without any readable image
    kept = features[[row for row in range(7) if row not in faults]]
    shards.save_shards(planned, faults, (kept[n : n + batch] for n in range(0, len(kept), batch)))
    assert [shard.load()[1] for shard in planned] == [[], list(faults.items()), []]
    joined = np.concatenate(list(shards.blocks(planned)))
    np.testing.assert_array_equal(joined, kept)
    for count in (3, 5):
        with pytest.raises(ValueError, match="features than images"):
            shards.save_shards(planned, faults, [unit(count)])


def test_a_shard_is_found_again_only_for_the_same_images_and_model(tmp_path):
    images = shard_table(tmp_path)
    names = [shard.file.name for shard in shards.plan(tmp_path, images, "model", 3)]
    assert names == [shard.file.name for shard in shards.plan(tmp_path, images, "model", 3)]
    assert not set(names) & {one.file.name for one in shards.plan(tmp_path, images, "other", 3)}
    Image.new("RGB", (4, 9)).save(images.paths[4])
    now = [shard.file.name for shard in shards.plan(tmp_path, images, "model", 3)]
    assert [old == new for old, new in zip(names, now)] == [True, False, True]


@KINDS
def test_a_damaged_shard_counts_as_none(tmp_path, kind):
    shard = shards.plan(tmp_path / "s", shard_table(tmp_path), "model", 7, kind)[0]
    shard.save(unit(6), [(2, "broken")])
    features, faults = shard.load()
    assert len(features) == 6 and faults == [(2, "broken")]
    content = shard.file.read_bytes()
    shard.file.write_bytes(content[:-40])
    assert shard.load() is None
    at = content.index(unit(6)[3].tobytes())  # one bit of a number
    shard.file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    assert shard.load() is None
    shard.save(unit(5), [])
    assert shard.load() is None  # of another number of images


@KINDS
def test_a_shard_of_broken_images_counts_from_its_own_first_row(tmp_path, kind):
    """So it means the same where the rows before it have gone."""
    images = shard_table(tmp_path)
    second = shards.plan(tmp_path / "s", images, "model", 3, kind)[1]
    second.save(unit(0), [(3, "a"), (4, "b"), (5, "c")])
    assert second.load()[1] == [(3, "a"), (4, "b"), (5, "c")]
    (same, _) = shards.plan(tmp_path / "s", images.take(range(3, 7)), "model", 3, kind)
    assert same.file == second.file and same.load()[1] == [(0, "a"), (1, "b"), (2, "c")]


def test_features_without_a_direction_are_refused():
    for value in (np.nan, np.inf, 0):
        with pytest.raises(UserError, match="NaN, infinity or zero"):
            normalize(np.full((1, 4), value, dtype=np.float32))


def test_calibration_searches_for_absent_people_only(tmp_path):
    gallery = small_gallery(tmp_path / "g")  # persons 0 to 2
    people = ImageTable(
        [f"/p/{n}.jpg" for n in range(5)],
        np.array([0, 1, 1, 0, 1]),
        ["1", "2", "3", "1", "2"],
        ["person 1", "eve", "eve", "eve", "bob"],
    )
    features = unit(5, seed=3)
    found = calibrate(gallery.images, gallery.nearest, people, features, "test", True)
    best = (features @ np.asarray(gallery.features).T).max(1)
    assert found["infrared"].impostor == pytest.approx(best[[1, 2, 4]].tolist())
    assert found["visible"].impostor == pytest.approx(best[[3]].tolist())
    assert (found["infrared"].people, found["visible"].people) == (2, 1)
    own = features @ features.T
    # bob has one image and so no genuine search
    assert found["infrared"].genuine == pytest.approx(
        [max(own[1, 2], own[1, 3]), max(own[2, 1], own[2, 3])]
    )
    changes.save_calibrations(gallery, found)
    again = open_gallery(tmp_path / "g").calibrations["infrared"]
    assert again == found["infrared"]
    with pytest.raises(UserError, match="all people of test"):
        calibrate(gallery.images, gallery.nearest, people.take([0]), features[:1], "test", True)
    nameless = ImageTable(["/p/q.jpg"], np.array([0]), [""], [""])
    with pytest.raises(UserError, match=r"/p/q\.jpg"):
        calibrate(gallery.images, gallery.nearest, nameless, features[:1], "test", True)


def test_the_stated_rate_holds_in_an_approximate_gallery(tmp_path):
    """Strangers by the hundred: one in ten of those to come is answered, no more."""
    gallery = small_gallery(tmp_path / "g", 600, "hnsw")
    strangers = unit(2000, seed=5)
    table = ImageTable(
        [f"/p/{n}.jpg" for n in range(1000)],
        np.zeros(1000, dtype=int),
        ["1"] * 1000,
        [f"stranger {n}" for n in range(1000)],
    )
    found = calibrate(gallery.images, gallery.nearest, table, strangers[:1000], "test", True)
    threshold = found["visible"].threshold(0.1)
    alarms = (gallery.nearest(strangers[1000:], 1)[1][:, 0] > threshold).mean()
    assert 0.07 < alarms < 0.13
