"""Feature files that somebody sent: types, scales, bombs, and data of other files."""

import io
import os
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from icre.evaluation.features import FeatureSet
from icre.evaluation.matlab import read_ids, read_sysu_features
from icre.evaluation.score import score
from icre.utils import matfile
from icre.utils.errors import UserError
from icre.utils.matfile import read_variable
from icre.utils.unpack import unpacking_limit
from small_features import small_features

COLUMNS = ("features", "pids", "camids", "modalities", "paths")


def columns_of(data):
    return {name: getattr(data, name) for name in COLUMNS}


def refused(read, *words):
    """The message of what must be refused: one printable line with these words."""
    with pytest.raises(UserError) as caught:
        read()
    said = str(caught.value)
    assert said.isprintable() and all(str(word) in said for word in words), said
    return said


@pytest.mark.parametrize("scale", [1e-300, 1e-45, 1e-30, 1e-20, 1e20, 1e30, 1e300])
def test_features_of_any_scale_rank_as_unscaled(scale):
    data = small_features("sysu")
    scaled = replace(data, features=data.features.astype(np.float64) * scale)
    assert score(scaled) == score(data)
    unit, expected = (
        torch.nn.functional.normalize(torch.from_numpy(one.features)) for one in (scaled, data)
    )
    torch.testing.assert_close(unit, expected)
    if 1e-36 < scale < 1e36:
        narrow = data.features * np.float32(scale)
        assert score(replace(data, features=narrow)) == score(data)


def test_rows_may_have_different_scales():
    data = small_features("sysu")
    scales = 10.0 ** np.random.default_rng(0).integers(-40, 40, (len(data), 1))
    assert score(replace(data, features=data.features * scales)) == score(data)


@pytest.mark.parametrize("scale", [2.0**-20, 1e-6, 1.0, 3.7, 1e6])
def test_ordinary_features_keep_every_bit(scale):
    features = small_features("sysu").features
    features = features / np.abs(features).max(axis=1, keepdims=True) * np.float32(scale)
    kept = replace(small_features("sysu"), features=features.astype(np.float32)).features
    np.testing.assert_array_equal(kept, features.astype(np.float32))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "i1", "u1", "i8", "u8", ">f4"])
def test_real_numbers_of_any_type_are_features(dtype):
    data = small_features("sysu")
    whole = np.rint(np.abs(data.features) / np.abs(data.features).max() * 100) + 1
    expected = score(replace(data, features=whole.astype(np.float32)))
    assert score(replace(data, features=whole.astype(dtype))) == expected


STRANGE = {
    "complex128": lambda values: values.astype(complex),
    "bool": lambda values: values.astype(bool),
    "datetime64": lambda values: values.astype("i8").astype("M8[s]"),
    "timedelta64": lambda values: values.astype("i8").astype("m8[s]"),
    "<U": lambda values: values.astype("U32"),
    "|S": lambda values: values.astype("S32"),
    "[(": lambda values: np.zeros(values.shape, [("a", "f4")]),
    "object": lambda values: values.astype(object),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("column", COLUMNS)
def test_other_types_are_refused_by_the_columns_name(column, kind, tmp_path):
    columns = columns_of(small_features("sysu"))
    if column == "paths":
        if kind == "<U":
            return
        columns["paths"] = STRANGE[kind](np.arange(len(columns["paths"])))
    else:
        columns[column] = STRANGE[kind](columns[column])
    refused(lambda: FeatureSet(**columns), column, kind)
    np.savez(tmp_path / "f.npz", **columns)
    refused(
        lambda: FeatureSet.load(tmp_path / "f.npz"), "f.npz", column if kind != "object" else ""
    )


@pytest.mark.parametrize("column", ["pids", "camids", "modalities"])
def test_integers_that_int64_cannot_hold_are_refused(column):
    columns = columns_of(small_features("sysu"))
    columns[column] = columns[column].astype(np.uint64)
    FeatureSet(**columns)
    columns[column] = columns[column] + np.uint64(2**63)
    refused(lambda: FeatureSet(**columns), column, "uint64")
    refused(lambda: FeatureSet(**columns | {column: np.ones(len(columns["paths"]))}), "float64")


def test_text_that_cannot_be_printed_is_escaped_or_refused():
    data = small_features("sysu")
    paths = data.paths.astype("U40")
    paths[3] = "\x1b[2Jcam1/\n../a.jpg"
    refused(lambda: replace(data, paths=np.roll(paths, 0)), "\\x1b[2J")
    broken = data.paths.astype("U40").copy()
    broken.view(np.uint32).reshape(len(broken), 40)[2, 0] = 0x110000
    refused(lambda: replace(data, paths=broken), "paths")


def write_npz(path, compression=zipfile.ZIP_DEFLATED, **members):
    """An .npz of arrays, and of bytes as they are."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, value in members.items():
            if isinstance(value, np.ndarray):
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, value, allow_pickle=True)
                value = buffer.getvalue()
            archive.writestr(f"{name}.npy", value)


def npy_header(shape, dtype="<f4"):
    buffer = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array",
        b"\x93NUMPY\x07\x00",
        npy_header((10**12, 10**6)),
        npy_header((2**62, 2**62)),
        npy_header((-1, 4)),
        npy_header((10, 4)) + bytes(40),
        npy_header((10,), "<U1000000"),
        npy_header((3,), "|O") + b"cos\nsystem\n(S'id'\ntR.",
    ],
    ids=repr,
)
@pytest.mark.parametrize("column", ["features", "paths"])
def test_members_that_are_no_arrays_are_refused(tmp_path, content, column):
    columns = columns_of(small_features("sysu"))
    write_npz(tmp_path / "f.npz", **columns | {column: content})
    refused(lambda: FeatureSet.load(tmp_path / "f.npz"), "f.npz")


def test_an_array_that_is_there_twice_is_refused(tmp_path):
    columns = columns_of(small_features("sysu"))
    write_npz(tmp_path / "f.npz", **columns)
    with zipfile.ZipFile(tmp_path / "f.npz", "a") as archive:
        archive.writestr("pids", b"")
    refused(lambda: FeatureSet.load(tmp_path / "f.npz"), "f.npz", "pids", "twice")


@pytest.mark.slow
def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    columns = columns_of(small_features("sysu"))
    zeros = npy_header((2**22, 8)) + bytes(2**27)
    write_npz(tmp_path / "f.npz", **columns | {"features": zeros})
    assert (tmp_path / "f.npz").stat().st_size < 2**20

    def opened(*args, **kwargs):
        raise AssertionError("unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "open", opened)
    refused(lambda: FeatureSet.load(tmp_path / "f.npz"), "f.npz", "bytes")


@pytest.mark.slow
def test_matlab_bombs_are_refused(tmp_path, monkeypatch):
    file = tmp_path / "test_id.mat"
    zeros = np.zeros((2**23, 2), np.float64)
    scipy.io.savemat(file, {"id": zeros}, do_compression=True)
    assert unpacking_limit(file.stat().st_size) < zeros.nbytes
    refused(lambda: read_ids(file), "test_id.mat", "bytes")
    scipy.io.savemat(file, {"id": scipy.sparse.csc_array((2**30, 3))})
    refused(lambda: read_ids(file), "test_id.mat")
    monkeypatch.setattr(matfile, "MOST_CELLS", 100)
    cells = np.empty(101, object)
    cells[:] = [np.zeros((0, 0))] * len(cells)
    scipy.io.savemat(file, {"id": cells}, do_compression=True)
    refused(lambda: read_ids(file), "test_id.mat", "100")


def test_pipes_are_no_feature_files(tmp_path):
    os.mkfifo(tmp_path / "f.npz")
    refused(lambda: FeatureSet.load(tmp_path / "f.npz"), "f.npz")
    for camera in range(1, 7):
        os.mkfifo(tmp_path / f"f_cam{camera}.mat")
    refused(lambda: read_sysu_features(tmp_path), "f_cam1.mat")
    with pytest.raises(ValueError, match="regular"):
        read_variable(tmp_path / "f.npz", "id")


@pytest.fixture()
def v73(tmp_path):
    """A folder of six v7.3 files; returns a function that writes the first one anew."""

    def write(camera, change=lambda file: None):
        with h5py.File(tmp_path / f"f_cam{camera}.mat", "w", userblock_size=512) as file:
            cells = [file.create_dataset(f"#refs#/{n}", data=np.ones((4, 2))) for n in range(3)]
            variable = file.create_dataset("feature", (3, 1), dtype=h5py.ref_dtype)
            for place, cell in enumerate(cells):
                variable[place, 0] = cell.ref
            change(file)

    for camera in range(1, 7):
        write(camera)
    return lambda change: write(1, change)


def set_cell(file, make):
    """Put what `make(file)` returns into the first cell."""
    file["feature"][0, 0] = make(file).ref


def external(file):
    secret = os.path.join(os.path.dirname(file.filename), "secret.bin")
    with open(secret, "wb") as other:
        other.write(np.full(8, 7.0).tobytes())
    return file.create_dataset("outside", (4, 2), "f8", external=[(secret, 0, 64)])


def virtual(file):
    layout = h5py.VirtualLayout((4, 2), "f8")
    layout[:] = h5py.VirtualSource(
        f"{os.path.dirname(file.filename)}/f_cam2.mat", "#refs#/0", (4, 2)
    )
    return file.create_virtual_dataset("outside", layout)


def linked(file, link):
    file.move("feature", "elsewhere")
    file["feature"] = link


CHANGES = {
    "external storage": lambda file: set_cell(file, external),
    "virtual data set": lambda file: set_cell(file, virtual),
    "external link": lambda file: linked(file, h5py.ExternalLink("f_cam2.mat", "/feature")),
    "soft link": lambda file: linked(file, h5py.SoftLink("/elsewhere")),
    "dangling link": lambda file: linked(file, h5py.SoftLink("/nowhere")),
    "group as cell": lambda file: set_cell(file, lambda file: file.create_group("group")),
    "group as variable": lambda file: linked(file, file.create_group("group")),
    "declared sizes": lambda file: set_cell(
        file, lambda file: file.create_dataset("big", (2**20, 2**20), "f8", chunks=(8, 8))
    ),
    "declared chunk": lambda file: set_cell(
        file,
        lambda file: file.create_dataset(
            "c", (1, 1), "f8", chunks=(2**12, 2**14), maxshape=(None, None)
        ),
    ),
    "bomb": lambda file: set_cell(
        file, lambda file: file.create_dataset("z", data=np.zeros((2**12, 2**12)), compression=9)
    ),
    "other filter": lambda file: set_cell(
        file, lambda file: file.create_dataset("l", data=np.ones((4, 2)), compression="lzf")
    ),
    "text": lambda file: set_cell(file, lambda file: file.create_dataset("t", data=["a", "b"])),
    "complex": lambda file: set_cell(
        file, lambda file: file.create_dataset("i", data=np.ones((4, 2), complex))
    ),
    "empty reference": lambda file: file["feature"].__setitem__((0, 0), h5py.Reference()),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_outside_of_a_v73_file_is_read(change, v73, tmp_path):
    assert len(FeatureSet.load(tmp_path, None)) == 6 * 3 * 2
    v73(CHANGES[change])
    refused(lambda: FeatureSet.load(tmp_path), "f_cam1.mat")


def test_more_cells_than_fit_are_refused(v73, tmp_path):
    v73(
        lambda file: linked(
            file, file.create_dataset("many", (2**40, 1), h5py.ref_dtype, chunks=(8, 1))
        )
    )
    refused(lambda: FeatureSet.load(tmp_path), "f_cam1.mat")


def test_equal_references_count_each(v73, tmp_path):
    def change(file):
        block = file.create_dataset("block", data=np.zeros((2**12, 2**10)), compression=9)
        variable = file.create_dataset("cells", (200, 1), dtype=h5py.ref_dtype)
        for place in range(200):
            variable[place, 0] = block.ref
        linked(file, variable)

    v73(change)
    refused(lambda: FeatureSet.load(tmp_path), "f_cam1.mat", "bytes")
