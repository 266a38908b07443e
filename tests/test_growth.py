"""docs/growth.md is what docs/growth.py computes, and that is what its formulas say."""

import runpy
from pathlib import Path

import pytest

GROWTH = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "growth.py"))
GIVEN = {one.symbol: one.value for one in GROWTH["GIVEN"]}


def test_the_page_is_up_to_date():
    assert GROWTH["main"](["--check"]) == 0, "run: python docs/growth.py"


def test_a_million_by_hand():
    found = GROWTH["growth"](10**6, GIVEN)
    assert found["vector_bytes"] == 2_048_000_000
    assert found["gpu_hours"] == pytest.approx(621.5 / 3600, rel=1e-3)
    assert found["image_bytes"] == 10**10
    assert found["segments"] == 2  # 1.9 GiB
    assert found["flat_seconds"] == pytest.approx(0.2327, rel=1e-3)
    # two graphs of half a million: 13.122 / 10.820 of 1 ms each
    assert found["hnsw_cpu_seconds"] == pytest.approx(2 * 0.0012128, rel=1e-3)
    assert found["diskann_disk_bytes"] == 4_396_000_000


def test_what_grows_with_the_rows_does():
    small, large = (GROWTH["growth"](size, GIVEN) for size in (10**8, 10**10))
    for key, value in small.items():
        if key not in ("segments", "hnsw_cpu_seconds", "large_cpu_seconds"):
            assert large[key] == pytest.approx(100 * value), key
    assert small["large_cpu_seconds"] < small["hnsw_cpu_seconds"] / 10


def test_larger_vectors_need_more_sectors():
    wide = GROWTH["growth"](10, GIVEN | {"D": 1024, "r": 0})
    assert wide["diskann_disk_bytes"] == 10 * 8192
