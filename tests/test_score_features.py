"""Feature files of any origin: what is read, what is refused, and the command `score`."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from icre.commands import score as score_command
from icre.datasets.paths import parse_path
from icre.evaluation.features import FeatureSet
from icre.evaluation.score import score
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError
from small_features import from_paths, small_features

COLUMNS = ("features", "pids", "camids", "modalities", "paths")


def changed(data: FeatureSet, column: str, row: int, value: object) -> dict[str, np.ndarray]:
    columns = {name: getattr(data, name).copy() for name in COLUMNS}
    columns[column][row] = value
    return columns


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("features", np.nan, r"features of row 4 \(cam1/\d+/\d+.jpg\) hold NaN or infinity"),
        ("features", np.inf, "features of row 4 .* hold NaN or infinity"),
        ("features", 0, "features of row 4 .* are all zero"),
        ("modalities", INFRARED, "modality of row 4 .* is 1, but its path says 0"),
        ("modalities", 7, "modality of row 4 .* is 7, not one of 0 visible, 1 infrared"),
        ("camids", 2, "camid of row 4 .* is 2, but its path says 1"),
        ("pids", 99, r"pid of row 4 \(cam1/0001/\d+.jpg\) is 99, but its path says 1"),
        ("paths", "cam1/0001/0002.jpg", r"row 4 .* has the same path as row 1"),
        ("paths", "cam1/0001/Thumbs.db", "row 4 .* is not an image file"),
        ("paths", "cam1/0001/._0005.jpg", "row 4 .* is not an image file"),
        ("paths", "x/0001/0005.jpg", "row 4 .* is not in the layout of row 0, sysu"),
        ("paths", "/data/cam1/0001/5.jpg", "row 4: path '/data.*' must be relative"),
        ("paths", "cam1\\0001\\0005.jpg", "row 4: path .* must be relative, with '/'"),
    ],
)
def test_bad_rows_are_named(column, value, message):
    data = from_paths([f"cam{camera}/0001/{n:04d}.jpg" for camera in (1, 3) for n in range(1, 9)])
    data = replace(data, paths=data.paths.astype("U30"))
    with pytest.raises(UserError, match=message):
        FeatureSet(**changed(data, column, 4, value))


def test_columns_of_other_lengths_and_types_are_named():
    data = small_features("sysu")
    columns = {name: getattr(data, name) for name in COLUMNS}
    for name in COLUMNS[1:]:
        with pytest.raises(UserError, match=f"{name} has shape"):
            FeatureSet(**columns | {name: columns[name][:-1]})
    with pytest.raises(UserError, match="features must be"):
        FeatureSet(**columns | {"features": columns["features"][:, 0]})
    with pytest.raises(UserError, match=r"pids .*float64"):
        FeatureSet(**columns | {"pids": columns["pids"] + 0.5})


def test_regdb_needs_one_pid_per_folder_but_any_number():
    data = small_features("regdb")
    relabelled = replace(data, pids=data.pids * 3 + 5)
    assert score(relabelled) == score(data)
    with pytest.raises(UserError, match=r"pid of row 1 .* 77,.* 1"):
        FeatureSet(**changed(data, "pids", 1, 77))
    with pytest.raises(UserError, match=r"folders 1 and 2 .*pid, 1"):
        replace(data, pids=np.where(data.pids == 2, 1, data.pids))


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("cam3/0006/0001.jpg", ("sysu", 6, 3, INFRARED)),
        ("my cam 5/SYSU-MM01/cam4/0333/0012.JPG", ("sysu", 333, 4, VISIBLE)),
        ("test_nir/cam2/0005/a b.png", ("llcm", 5, 2, INFRARED)),
        ("cam1/LLCM/test_vis/cam9/1064/x.jpg", ("llcm", 1064, 9, VISIBLE)),
        ("nir/0351/0351_c06_s200656_f4830_nir.jpg", ("llcm", 351, 6, INFRARED)),
        ("Thermal/12/img_t_00001_12.bmp", ("regdb", 12, 2, INFRARED)),
        ("Visible/12/img_v_00001_12.bmp", ("regdb", 12, 1, VISIBLE)),
        ("cam7/0006/0001.jpg", None),
        ("market/0002_c1s1_000451_03.jpg", None),
    ],
)
def test_paths_are_read_from_their_end(path, place):
    assert parse_path(path) == place


def test_upper_case_suffix_and_root_prefix_change_no_number():
    data = small_features("sysu")
    paths = [f"a cam1 b/{path}".replace(".jpg", ".JPG") for path in data.paths]
    assert score(replace(data, paths=paths)) == score(data)


def test_no_data_sets_protocol_scores_an_unknown_layout():
    data = small_features("regdb")
    plain = replace(data, paths=[path.replace("/", "-") for path in data.paths])
    assert plain.layout is None
    with pytest.raises(UserError, match=r"regdb-t2v .*regdb"):
        score(plain, ["regdb-t2v"])
    with pytest.raises(UserError, match="layout"):
        score(plain)


def test_save_and_load_give_the_same_rows(tmp_path):
    data = small_features("llcm")
    data.save(tmp_path / "run" / "features.npz")
    for source in (tmp_path / "run" / "features.npz", tmp_path / "run"):
        loaded = FeatureSet.load(source)
        assert all((getattr(loaded, name) == getattr(data, name)).all() for name in COLUMNS)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["features.npz"]


def test_files_that_are_no_feature_files_are_named(tmp_path):
    data = small_features("sysu")
    columns = {name: getattr(data, name) for name in COLUMNS}
    np.savez(tmp_path / "short.npz", features=data.features, pids=data.pids)
    np.savez(tmp_path / "pickled.npz", **columns | {"paths": data.paths.astype(object)})
    (tmp_path / "text.npz").write_text("features")
    (tmp_path / "empty").mkdir()
    for name, message in {
        "short.npz": "short.npz: .*'camids'",
        "pickled.npz": "pickled.npz: .*allow_pickle",
        "text.npz": "text.npz",
        "none.npz": "none.npz",
        "empty": r"no features.npz, and \*_cam1.mat",
    }.items():
        with pytest.raises(UserError, match=message):
            FeatureSet.load(tmp_path / name)


def write_v5(path: Path, cells: list[np.ndarray]) -> None:
    array = np.empty((1, len(cells)), dtype=object)
    array[0, :] = cells
    scipy.io.savemat(path, {"feature": array})


def write_v73(path: Path, cells: list[np.ndarray]) -> None:
    """As MATLAB does: references to transposed arrays, empty ones as their dimensions."""
    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_dataset("feature", (len(cells), 1), dtype=h5py.ref_dtype)
        for place, cell in enumerate(cells):
            stored = cell.T if cell.size else np.zeros(2, dtype=np.uint64)
            written = file.create_dataset(f"#refs#/{place}", data=stored)
            if not cell.size:
                written.attrs["MATLAB_empty"] = np.uint8(1)
            references[place, 0] = written.ref


def authors_cells(data: FeatureSet, camera: int) -> list[np.ndarray]:
    """`feature` of a camera: cell id-1 holds that identity's rows, empty where there are none."""
    return [
        data.features[(data.pids == pid) & (data.camids == camera)].astype(np.float64)
        for pid in range(1, data.pids.max() + 1)
    ]


@pytest.mark.parametrize("write", [write_v5, write_v73])
def test_the_authors_format_scores_as_the_npz(tmp_path, write):
    data = small_features("sysu").ordered()
    for camera in range(1, 7):
        write(tmp_path / f"feature_cam{camera}.mat", authors_cells(data, camera))
    (tmp_path / "._feature_cam1.mat").write_text("a stray system file")
    loaded = FeatureSet.load(tmp_path)
    assert loaded.layout == "sysu" and len(loaded) == len(data)
    assert score(loaded) == score(data)
    (tmp_path / "test_id.txt").write_text("1,2,5\n")
    some = FeatureSet.load(tmp_path, tmp_path / "test_id.txt")
    assert score(some) == score(data.take(np.isin(data.pids, (1, 2, 5))))


def test_a_dump_of_training_identities_too_is_refused(tmp_path):
    for camera in range(1, 7):
        write_v5(tmp_path / f"f_cam{camera}.mat", [np.ones((1, 4))] * 97)
    with pytest.raises(UserError, match=r"97 identities.* 96"):
        FeatureSet.load(tmp_path)
    write_v5(tmp_path / "g_cam2.mat", [np.ones((1, 4))])
    with pytest.raises(UserError, match=r"f_cam2\.mat .*g_cam2\.mat"):
        FeatureSet.load(tmp_path)


def test_tool_prints_the_table_and_writes_the_records(tmp_path, capsys):
    data = small_features("regdb")
    data.save(tmp_path / "f.npz")
    main = score_command.main
    arguments = [str(tmp_path / "f.npz"), "--protocol", "regdb-t2v", "--split", "4"]
    assert main([*arguments, "--json", str(tmp_path / "out" / "m.json")]) == 0
    assert json.loads((tmp_path / "out" / "m.json").read_text()) == score(
        data, ["regdb-t2v"], split=4
    )
    assert "| regdb-t2v" in capsys.readouterr().out
    assert main([str(tmp_path / "f.npz"), "--protocol", "regdb"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "'regdb'" in error and "sysu-all-single" in error
    assert error.count("\n") == 1
