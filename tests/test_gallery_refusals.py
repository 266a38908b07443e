"""Galleries refuse what they could not read back; what the system refuses is no damage."""

import errno
import os
import resource
import shutil
from dataclasses import replace

import numpy as np
import pytest

from icre.gallery import arrays, changes, versions
from icre.gallery.filters import Filter
from icre.gallery.manifest import read_manifest
from icre.gallery.store import open_gallery
from icre.gallery.verify import verify
from icre.gallery.writing import merge, write
from icre.serve.changing import described
from icre.serve.tokens import Tokens
from icre.utils.errors import UserError
from small_galleries import MODEL, images_of, small_gallery, unit

NEW = replace(images_of(3), paths=["/new/0.jpg", "/new/1.jpg", "/new/2.jpg"])


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (unit(3, 8), "features of 8 dimensions do not fit gallery .*which has 16"),
        (unit(3) * [[1], [2], [1]], r"the feature of /new/1\.jpg is no unit vector"),
        (unit(3) * np.float32(np.nan), r"the feature of /new/0\.jpg is no unit vector"),
    ],
)
@pytest.mark.parametrize("segment_rows", [2, 100])
def test_features_that_do_not_fit_are_not_added(
    tmp_path, monkeypatch, features, message, segment_rows
):
    small_gallery(tmp_path / "g")
    monkeypatch.setattr(changes, "SEGMENT_ROWS", segment_rows)
    with pytest.raises(UserError, match=message) as caught:
        changes.add(tmp_path / "g", NEW, [features[:1], features[1:]], progress=False)
    assert "\n" not in str(caught.value)
    verify(open_gallery(tmp_path / "g"))
    assert open_gallery(tmp_path / "g").version == 1


def test_old_files_that_cannot_be_deleted_are_told_and_stay(tmp_path, monkeypatch, caplog):
    """As on NFS, where a file that a reader has open is only renamed."""
    small_gallery(tmp_path / "g")

    def busy(path, *more, **options):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", busy)
        opened = changes.remove(tmp_path / "g", Filter(camera=("1",))).gallery
        assert opened.version == 2 and "1-0" in caplog.text and "not of version 2" in caplog.text
        assert caplog.text.count("\n") == 1
        caplog.clear()
        changes.add(tmp_path / "g", NEW, [unit(3)], progress=False)
        assert "cannot all be deleted" in caplog.text
    verify(open_gallery(tmp_path / "g"))
    assert versions.leftovers(open_gallery(tmp_path / "g"))
    with versions.changing(tmp_path / "g") as gallery:
        assert gallery.version == 3 and not versions.leftovers(gallery)


def test_a_manifest_that_could_not_be_read_is_not_written(tmp_path):
    small_gallery(tmp_path / "g")
    before = read_manifest(tmp_path / "g")
    wrong = replace(NEW, attributes={"\udce9": ["x"] * 3})
    with pytest.raises(UserError, match=r"cannot be written: gallery\.json") as caught:
        changes.add(tmp_path / "g", wrong, [unit(3)], progress=False)
    assert "\n" not in str(caught.value)
    assert read_manifest(tmp_path / "g") == before
    changes.add(tmp_path / "g", NEW, [unit(3)], progress=False)
    with pytest.raises(UserError, match="cannot be written"):
        write(tmp_path / "h", wrong, [unit(3)], MODEL, "flat", progress=False)
    assert not (tmp_path / "h").exists()


def test_skipped_images_may_have_any_name(tmp_path):
    skipped = [("/images/caf\udce9.jpg", "broken")]
    write(tmp_path / "g", images_of(3), [unit(3)], MODEL, "flat", skipped, progress=False)
    changes.add(tmp_path / "g", NEW, [unit(3)], skipped, progress=False)
    stored = open_gallery(tmp_path / "g").manifest["skipped"]
    assert stored == [[r"/images/caf\udce9.jpg", "broken"]] * 2


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EMFILE, r"Too many open files: raise the limit of open files \(ulimit -n\)"),
        (errno.EACCES, "Permission denied"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_what_the_system_refuses_is_no_damage(tmp_path, monkeypatch, number, message):
    small_gallery(tmp_path / "g")

    def refuse(path, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(arrays.np, "load", refuse)
    with pytest.raises(UserError, match=message) as caught:
        open_gallery(tmp_path / "g")
    text = str(caught.value)
    assert "path.bytes.npy" in text and "\n" not in text
    assert "damaged" not in text and "index again" not in text


def test_a_manifest_that_cannot_be_opened_is_no_damage(tmp_path, monkeypatch):
    small_gallery(tmp_path / "g")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    real = resource.prlimit
    real(0, resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(UserError) as caught:
            open_gallery(tmp_path / "g")
    finally:
        real(0, resource.RLIMIT_NOFILE, (soft, hard))
    assert "Too many open files" in str(caught.value) and "damaged" not in str(caught.value)


def test_opening_raises_the_limit_of_open_files(tmp_path):
    small_gallery(tmp_path / "g")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
    try:
        open_gallery(tmp_path / "g")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


CONFIG = "MODEL: {{DEVICE: {}, WEIGHTS: {}, HEADS: {{NAME: A}}}}\nINPUT: {{SIZE_TEST: [{}, 128]}}\n"


@pytest.mark.parametrize(
    ("config", "dimensions", "message"),
    [
        (CONFIG.format("cpu", "b.pth", 384), 16, r"INPUT.SIZE_TEST is \[256, 128\] and \[384"),
        (
            CONFIG.format("cpu", "b.pth", 256).replace("NAME: A", "NAME: B"),
            16,
            r"HEADS.NAME is A and B",
        ),
        (CONFIG.format("cuda", "a.pth", 256), 8, "dimensions is 16 and 8"),
    ],
)
def test_galleries_of_other_features_are_not_merged(tmp_path, config, dimensions, message):
    models = {"a": replace(MODEL, config=CONFIG.format("cpu", "a.pth", 256))}
    models |= {"b": replace(MODEL, config=CONFIG.format("cuda", "b.pth", 256))}
    models |= {"c": replace(MODEL, config=config)}
    for name, model in models.items():
        table = replace(images_of(3), paths=[f"/{name}/{row}.jpg" for row in range(3)])
        features = unit(3, dimensions if name == "c" else 16)
        write(tmp_path / name, table, [features], model, "flat", progress=False)
    one, two, other = (open_gallery(tmp_path / name) for name in "abc")
    merge(tmp_path / "ab", [one, two], progress=False)
    assert len(open_gallery(tmp_path / "ab").images) == 6
    with pytest.raises(UserError, match=message) as caught:
        merge(tmp_path / "ac", [one, other], progress=False)
    assert "\n" not in str(caught.value) and not (tmp_path / "ac").exists()


def test_empty_galleries_are_not_merged(tmp_path):
    for name in "ab":
        small_gallery(tmp_path / name)
        changes.remove(tmp_path / name, Filter(path=("*",)))
    galleries = [open_gallery(tmp_path / name) for name in "ab"]
    with pytest.raises(UserError, match="have no images") as caught:
        merge(tmp_path / "c", galleries, progress=False)
    assert "\n" not in str(caught.value) and not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["path", "modality", "camera", "identity", "time", "box"])
def test_a_request_names_no_attribute_as_another_column(tmp_path, name):
    with pytest.raises(UserError, match=f"{name} is no attribute"):
        described([(b"", "PNG")], tmp_path, "visible", "1", "2", None, [f"{name}=x"])


@pytest.mark.parametrize("place", range(4))
def test_a_request_has_only_utf8_texts(tmp_path, place):
    texts = [["1", "2", None, "track=7"] for _ in range(2)]
    texts[1][place] = "track=\udce9"
    images, wrong = texts
    assert described([(b"", "PNG")], tmp_path, "visible", *images[:3], images[3:])
    with pytest.raises(UserError, match="no UTF-8 text"):
        described([(b"", "PNG")], tmp_path, "visible", *wrong[:3], wrong[3:])


def test_two_names_have_no_token_in_common():
    token = "t" * 32
    lines = [f"anna read {token}", f"boris write {token}"]
    with pytest.raises(UserError, match="line 2: boris and anna have the same token") as caught:
        Tokens(lines, "tokens")
    assert token not in str(caught.value)
