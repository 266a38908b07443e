"""Reading MATLAB v5 files: as scipy does, and no more than an error on a damaged one."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icre.utils.matfile import read_variable

SPLIT = Path(__file__).parents[2] / "shared/sysu_split"


def cells(*contents: np.ndarray, shape: tuple[int, int] | None = None) -> np.ndarray:
    result = np.empty(len(contents), dtype=object)
    for place, content in enumerate(contents):
        result[place] = content
    return result.reshape(shape or (1, len(contents)), order="F")


NUMBERS = np.arange(6).reshape(2, 3)
VALUES = {
    **{
        f"{dtype} numbers": NUMBERS.astype(dtype)
        for dtype in ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")
    },
    "one number": np.array([[7.5]]),
    "nothing": np.empty((0, 0)),
    "three dimensions": np.arange(24.0).reshape(2, 3, 4),
    "cells": cells(NUMBERS / 3, np.empty((0, 0)), NUMBERS[:1], NUMBERS * 1000, shape=(2, 2)),
    "cells in cells": cells(cells(NUMBERS, NUMBERS + 1, shape=(2, 1)), cells(NUMBERS)),
}


def assert_equal(ours: np.ndarray, theirs: np.ndarray) -> None:
    """scipy keeps the type that numbers are stored in, we give them that of the array."""
    assert ours.shape == theirs.shape and (ours.dtype == object) == (theirs.dtype == object)
    if ours.dtype == object:
        for mine, other in zip(ours.ravel(), theirs.ravel()):
            assert_equal(mine, other)
    else:
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", VALUES)
def test_variables_are_scipys(tmp_path, name, compressed):
    path = tmp_path / "file.mat"
    scipy.io.savemat(
        path, {"first": NUMBERS, "wanted": VALUES[name], "text": "words"}, do_compression=compressed
    )
    assert_equal(read_variable(path, "wanted"), scipy.io.loadmat(path)["wanted"])
    assert read_variable(path, "missing") is None
    with pytest.raises(ValueError, match="of class 4"):
        read_variable(path, "text")


@pytest.mark.skipif(not SPLIT.is_dir(), reason="no official split of SYSU-MM01")
def test_the_official_files(tmp_path):
    for name, variable in (
        ("rand_perm_cam", "rand_perm_cam"),
        ("test_id", "id"),
        ("train_id", "id"),
    ):
        path = SPLIT / f"{name}.mat"
        assert_equal(read_variable(path, variable), scipy.io.loadmat(path)[variable])


def test_what_is_no_such_file(tmp_path):
    path = tmp_path / "file.mat"
    for content in (b"", b"no MATLAB file", bytes(200)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="no MATLAB v5 header"):
            read_variable(path, "x")
    scipy.io.savemat(path, {"x": NUMBERS + 1j})
    with pytest.raises(ValueError, match="none of real numbers"):
        read_variable(path, "x")


@pytest.mark.slow
def test_damage_is_a_value_error_or_seen_in_the_values(tmp_path):
    """Some of these files end the process in scipy.io.loadmat."""
    path = tmp_path / "file.mat"
    scipy.io.savemat(path, {"x": VALUES["cells in cells"]})
    whole = path.read_bytes()
    refused = []

    @settings(
        max_examples=300,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=6),
        st.integers(len(whole) // 2, len(whole)),
    )
    def read(changes, end):
        content = bytearray(whole)
        for at, byte in changes:
            content[at] = byte
        path.write_bytes(content[:end])
        try:
            read_variable(path, "x")
        except ValueError:
            refused.append(end)

    read()
    assert len(refused) > 100
