"""Re-ranking: the field's own numbers, a loop oracle, invariants, bad input; both CPU paths."""

from pathlib import Path

import numpy as np
import pytest
import torch

from icre.evaluation import rerank_compiled, rerank_tensor
from icre.evaluation.neighbours import nearest
from icre.evaluation.rerank import (
    jaccard_distance,
    mix,
    path_for,
    rerank,
    rerank_blocks,
    rerank_with,
)
from icre.evaluation.rerank_options import ALGORITHMS, Reranking
from icre.utils.errors import UserError
from reference.rerank_oracle import loop_rerank

GOLDEN = Path(__file__).parent / "golden" / "rerank.npz"
PATHS = pytest.mark.parametrize("path", [rerank_compiled, rerank_tensor], ids=["loops", "torch"])
BOTH = pytest.mark.parametrize("algorithm", list(ALGORITHMS))
SETS = [(20, 6, 0.3), (10, 3, 0.5), (30, 1, 0.1)]


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def people(queries: int, gallery: int, spread: float = 0.8, seed: int = 0):
    """Query and gallery features of some people, 12 dimensions."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(max(2, (queries + gallery) // 9), 12))
    who = generator.integers(len(centres), size=queries + gallery)
    features = unit(centres[who] + spread * generator.normal(size=(len(who), 12)))
    return features[:queries], features[queries:]


def by_path(path, query, gallery, *numbers, rows=None, near=None) -> np.ndarray:
    """`rerank` by either path, on CPU tensors."""
    choice = Reranking(*numbers)
    features = torch.from_numpy(np.concatenate([query, gallery]))
    lists = choice.method.lists(choice.k1, choice.k2).within(len(features))
    found = nearest(features, lists.search, choice.method.relative)
    blocks = mix(
        path, choice, features, len(query), near if near is not None else found[0], found[1], rows
    )
    return torch.cat([block for _, block in blocks]).numpy()


@pytest.mark.parametrize("numbers", SETS)
@BOTH
@PATHS
def test_golden(path, algorithm, numbers):
    golden = np.load(GOLDEN)
    query, gallery = golden["query"], golden["gallery"]
    expected = golden[f"{algorithm}_final_" + "_".join(map(str, numbers))]
    found = by_path(path, query, gallery, algorithm, *numbers, rows=64)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
    assert found.std() > 0.05


@pytest.mark.parametrize("k1, k2", [(20, 6), (10, 3), (30, 1)])
def test_golden_jaccard_for_fastreids_evaluator(k1, k2):
    golden = np.load(GOLDEN)
    sides = torch.from_numpy(golden["query"]), torch.from_numpy(golden["gallery"])
    found = jaccard_distance(*sides, k1, k2)
    np.testing.assert_allclose(found, golden[f"fastreid_jaccard_{k1}_{k2}"], atol=1e-4, rtol=0)


# odd k1 tell Python's rounding from the schoolbook's; k2 beyond k1; fewer images than k1
@pytest.mark.parametrize(
    "numbers",
    [(5, 2, 0.3), (7, 9, 0.5), (1, 1, 0.0), (1, 4, 0.2), (20, 6, 1.0), (45, 3, 0.1), (60, 70, 0.4)],
)
@BOTH
@PATHS
def test_loops_agree(path, algorithm, numbers):
    query, gallery = people(11, 32)
    expected = loop_rerank(query, gallery, algorithm, *numbers)
    found = by_path(path, query, gallery, algorithm, *numbers, rows=4)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("queries, gallery", [(1, 1), (1, 30), (7, 1), (1, 2)])
@BOTH
@PATHS
def test_very_few_images(path, algorithm, queries, gallery):
    sides = people(queries, gallery)
    found = by_path(path, *sides, algorithm)
    np.testing.assert_allclose(found, loop_rerank(*sides, algorithm, 20, 6, 0.3), atol=1e-5, rtol=0)


@BOTH
@PATHS
def test_permuting_either_side_permutes_the_result(path, algorithm):
    query, gallery = people(20, 90)
    generator = np.random.default_rng(1)
    lines, columns = generator.permutation(20), generator.permutation(90)
    found = by_path(path, query, gallery, algorithm)
    moved = by_path(path, query[lines], gallery[columns], algorithm)
    np.testing.assert_allclose(moved, found[np.ix_(lines, columns)], atol=1e-5, rtol=0)


@BOTH
@PATHS
def test_copies_of_images(path, algorithm):
    query, gallery = people(8, 20)
    gallery = np.concatenate([gallery, gallery, query])
    choice = Reranking(algorithm, 9, 3)
    features = torch.from_numpy(np.concatenate([query, gallery]))
    near, _ = nearest(features, choice.method.lists(9, 3).search)
    found = by_path(path, query, gallery, algorithm, 9, 3, near=near)
    expected = loop_rerank(query, gallery, algorithm, 9, 3, 0.3, order=near.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)
    # lists that hold all images hold all copies, and then copies are equals
    whole = by_path(path, query, gallery, algorithm, 56, 3)
    np.testing.assert_allclose(whole[:, :20], whole[:, 20:40], atol=1e-5, rtol=0)


@BOTH
@PATHS
def test_one_image_many_times(path, algorithm):
    same = np.repeat(people(1, 1)[0], 40, axis=0)
    found = by_path(path, same[:5], same[5:], algorithm, 50, 6)
    np.testing.assert_allclose(found, 0, atol=1e-5)


@BOTH
def test_both_paths_agree_where_temporary_tables_are_cut(monkeypatch, algorithm):
    monkeypatch.setattr(rerank_tensor, "_ENTRIES", {"cpu": 997, "other": 997})
    monkeypatch.setattr(rerank_compiled, "_ROWS", 7)
    monkeypatch.setattr("icre.evaluation.neighbours._PAIRS", {"cpu": 5000, "other": 5000})
    monkeypatch.setattr("icre.evaluation.neighbours._ROWS", 1)
    query, gallery = people(60, 240)
    first, second = (
        by_path(path, query, gallery, algorithm) for path in (rerank_compiled, rerank_tensor)
    )
    np.testing.assert_allclose(first, second, atol=1e-5, rtol=0)
    monkeypatch.undo()
    np.testing.assert_allclose(first, rerank(query, gallery, algorithm=algorithm), atol=1e-5)


def test_threads_share_the_rows_without_a_trace():
    query, gallery = people(150, 700)
    alone = rerank(query, gallery)
    torch.set_num_threads(3)
    try:
        np.testing.assert_allclose(rerank(query, gallery), alone, atol=1e-6)
    finally:
        torch.set_num_threads(1)


def test_the_nearest_are_the_nearest_and_the_farthest_the_farthest():
    features = torch.from_numpy(people(0, 60)[1])
    square = torch.cdist(features.double(), features.double()).square()
    indices, far = nearest(features, 7, farthest=True)
    assert torch.equal(indices, square.argsort(1)[:, :7])
    torch.testing.assert_close(far.double(), square.amax(1), atol=1e-5, rtol=0)


def test_where_the_features_are_chooses_the_path():
    assert path_for(torch.device("cpu")) is rerank_compiled
    assert path_for(torch.device("cuda")) is rerank_tensor
    query, gallery = people(4, 9)
    with pytest.raises(UserError, match="query cpu, gallery meta"):
        rerank(torch.from_numpy(query), torch.empty(gallery.shape, device="meta"))


def test_tensors_give_a_tensor_and_blocks_the_whole():
    query, gallery = people(21, 50)
    whole = rerank(query, gallery, k1=8)
    assert whole.shape == (21, 50) and whole.dtype == np.float32
    sides = torch.from_numpy(query).requires_grad_(), torch.from_numpy(gallery)
    found = rerank(*sides, k1=8)
    assert isinstance(found, torch.Tensor) and not found.requires_grad
    np.testing.assert_allclose(found, whole, atol=1e-6)
    blocks = list(rerank_blocks(Reranking(k1=8), query, gallery, rows=4))
    assert [places.start for places, _ in blocks] == [0, 4, 8, 12, 16, 20]
    # a product of other shapes sums in another order
    np.testing.assert_allclose(np.concatenate([block for _, block in blocks]), whole, atol=1e-6)
    np.testing.assert_allclose(rerank_with(Reranking(k1=8), query, gallery), whole, atol=1e-6)


def test_reranking_helps_where_people_form_clusters():
    """What it is for: a hard query finds its person through that person's other images."""
    generator = np.random.default_rng(3)
    centres = generator.normal(size=(40, 24))
    who = np.repeat(np.arange(40), 12)
    features = unit(centres[who] + 1.1 * generator.normal(size=(480, 24)))
    asks = np.arange(0, 480, 12)
    rest = np.setdiff1d(np.arange(480), asks)
    plain = 1 - features[asks] @ features[rest].T
    better = rerank(features[asks], features[rest], k1=12)
    right = who[rest] == who[asks][:, None]

    def in_first_11(distance):
        return np.take_along_axis(right, distance.argsort(1)[:, :11], 1).mean()

    assert in_first_11(better) > in_first_11(plain) + 0.05


def test_bad_features_are_one_line():
    query, gallery = people(4, 9)
    broken = gallery.copy()
    broken[3, 2] = np.nan
    cases = [
        ((query, broken), "gallery .* row 3 .*NaN"),
        ((2 * query, gallery), "query .* row 0 .* norm 2"),
        ((query[:0], gallery), r"query .*\(0, 12\)"),
        ((query, gallery[0]), r"gallery .*\(12,\)"),
        ((query, unit(gallery[:, :7])), "query 12, gallery 7"),
        ((query, torch.from_numpy(gallery)), "ndarray and Tensor"),
        ((query.tolist(), gallery.tolist()), "list and list"),
        ((query.astype(int), gallery), "query .*int64"),
    ]
    for sides, message in cases:
        with pytest.raises(UserError, match=message):
            rerank(*sides)
        with pytest.raises(UserError, match=message):
            rerank_blocks(Reranking(), *sides)


@pytest.mark.parametrize(
    "numbers, message",
    [
        ({"algorithm": "zhong"}, "'zhong'.* fastreid, original"),
        ({"k1": 0}, "k1 is 0"),
        ({"k2": 2.5}, "k2 is 2.5"),
        ({"lambda_value": 1.5}, "lambda is 1.5"),
        ({"lambda_value": float("nan")}, "lambda is nan"),
    ],
)
def test_bad_numbers_are_one_line(numbers, message):
    with pytest.raises(UserError, match=message):
        rerank(*people(4, 9), **numbers)
