"""rank.py: hand-worked values, invariants, and the loop oracle on random data."""

import math
import random

import pytest
import torch

from icre.evaluation.rank import QueryScores, metrics, order_keys, score_queries
from icre.utils.errors import UserError
from reference.rank_oracle import query_by_hand


def values(distances, query_pids, gallery_pids, barred=None, dedup=False) -> QueryScores:
    distance = torch.tensor(distances, dtype=torch.float64)
    barred = None if barred is None else torch.tensor(barred)
    keys = order_keys(distance, barred)
    return score_queries(keys, torch.tensor(query_pids), torch.tensor(gallery_pids), dedup)


def test_hand_worked():
    # Ranked pids: 2 2 1 3 1. Hits of pid 1 at ranks 3 and 5.
    one = values([[0.3, 0.1, 0.5, 0.2, 0.4]], [1], [1, 2, 1, 2, 3])
    assert one.first_match.item() == 3
    assert one.ap.item() == pytest.approx((1 / 3 + 2 / 5) / 2)
    assert one.inp.item() == pytest.approx(2 / 5)
    # De-duplicated the list is 2 1 3; AP and INP stay on the whole list.
    deduplicated = values([[0.3, 0.1, 0.5, 0.2, 0.4]], [1], [1, 2, 1, 2, 3], dedup=True)
    assert deduplicated.first_match.item() == 2
    assert deduplicated.ap.item() == one.ap.item()
    # Without the two images of pid 2 the hits stand at 1 and 3.
    barred = [[False, True, False, True, False]]
    shorter = values([[0.3, 0.1, 0.5, 0.2, 0.4]], [1], [1, 2, 1, 2, 3], barred)
    assert (shorter.first_match.item(), shorter.inp.item()) == (1, pytest.approx(2 / 3))
    assert shorter.ap.item() == pytest.approx((1 + 2 / 3) / 2)


def test_perfect_and_worst():
    gallery = [0, 0, 1, 1, 2, 2]
    near = [[0.0 if pid == query else 1.0 for pid in gallery] for query in range(3)]
    perfect = metrics(values(near, [0, 1, 2], gallery))
    assert perfect == dict.fromkeys(perfect, 100.0)
    far = [[1.0 - distance for distance in row] for row in near]
    worst = metrics(values(far, [0, 1, 2], gallery))
    assert worst["Rank-1"] == 0 and worst["Rank-5"] == 100
    assert worst["mAP"] == pytest.approx(100 * (1 / 5 + 2 / 6) / 2)
    assert worst["mINP"] == pytest.approx(100 * 2 / 6)


@pytest.mark.parametrize("dedup", [False, True])
def test_equals_the_oracle_on_random_data(dedup):
    generator = random.Random(7)
    for _ in range(60):
        size, identities = generator.randint(1, 30), generator.randint(1, 8)
        # Few distinct distances, so that ties are common.
        distances = [[generator.randint(0, 6) / 6 for _ in range(size)] for _ in range(9)]
        barred = [[generator.random() < 0.2 for _ in range(size)] for _ in range(9)]
        gallery = [generator.randrange(identities) for _ in range(size)]
        query = [generator.randrange(identities) for _ in range(9)]
        got = values(distances, query, gallery, barred, dedup)
        for row in range(9):
            wanted = query_by_hand(distances[row], gallery, barred[row], query[row], dedup)
            if wanted is None:
                assert got.first_match[row] == 0 and math.isnan(got.ap[row] + got.inp[row])
            else:
                assert got.first_match[row] == wanted[0]
                assert got.ap[row].item() == pytest.approx(wanted[1], abs=1e-12)
                assert got.inp[row].item() == pytest.approx(wanted[2], abs=1e-12)


def test_ties_rank_in_gallery_order():
    tied = [[0.5, 0.5, 0.5]]
    assert values(tied, [1], [1, 2, 3]).first_match.item() == 1
    assert values(tied, [1], [2, 3, 1]).first_match.item() == 3
    # Rounding noise of a product is a tie as well, a real difference is not.
    assert values([[0.5 + 1e-15, 0.5]], [1], [1, 2]).first_match.item() == 1
    assert values([[0.5 + 1e-11, 0.5]], [1], [1, 2]).first_match.item() == 2


def test_any_subset_of_columns_keeps_the_order():
    keys = order_keys(torch.rand(4, 50, dtype=torch.float64))
    subset = torch.tensor([3, 8, 9, 31, 49])
    pids = torch.arange(50)
    part = score_queries(keys[:, subset], torch.tensor([31] * 4), pids[subset], False)
    ahead = (keys[:, subset] < keys[:, 31:32]).sum(1)
    assert torch.equal(part.first_match, ahead + 1)


def test_unmatched_queries_count_in_nothing():
    both = values([[0.1, 0.2], [0.1, 0.2]], [1, 9], [1, 2])
    assert metrics(both) == metrics(values([[0.1, 0.2]], [1], [1, 2]))
    with pytest.raises(UserError, match="no query has a match"):
        metrics(values([[0.1, 0.2]], [9], [1, 2]))


def test_small_gallery_pads_cmc():
    short = metrics(values([[0.1, 0.2, 0.3]] * 2, [3, 1], [1, 2, 3], dedup=True))
    assert (short["Rank-1"], short["Rank-5"], short["Rank-20"]) == (50, 100, 100)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e9])
def test_distances_that_cannot_be_ordered_raise(bad):
    with pytest.raises(UserError, match="distances lie in"):
        order_keys(torch.tensor([[0.1, bad]], dtype=torch.float64))
