"""P identities x (K visible + K infrared), and the seeds of augmentation."""

import itertools
import logging
from collections import Counter

import numpy as np
import pytest

from icre.data.sampler import CrossModalitySampler, RandomCrossModalitySampler, SeededBatchSampler
from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError


def random_set(seed: int, ids: int = 9) -> tuple[list[str], list[int]]:
    """Identities with one to six images of each modality, in random order."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"p{pid}", modality)
        for pid in range(ids)
        for modality in (VISIBLE, INFRARED)
        for _ in range(rng.integers(1, 7))
    ]
    rng.shuffle(rows)
    return [pid for pid, _ in rows], [int(modality) for _, modality in rows]


def batches(sampler, size: int, count: int) -> list[list[int]]:
    stream = iter(sampler)
    return [list(itertools.islice(stream, size)) for _ in range(count)]


@pytest.mark.parametrize("kind", [CrossModalitySampler, RandomCrossModalitySampler])
@pytest.mark.parametrize("seed", range(3))
def test_every_batch_has_p_identities_with_k_of_each_modality(seed, kind):
    pids, modalities = random_set(seed)
    for batch in batches(kind(pids, modalities, 4, 3, seed), 24, 40):
        counts = Counter((pids[i], modalities[i]) for i in batch)
        assert len({pid for pid, _ in counts}) == 4
        assert len(counts) == 8 and set(counts.values()) == {3}


@pytest.mark.parametrize("kind", [CrossModalitySampler, RandomCrossModalitySampler])
def test_ranks_take_disjoint_identities_of_one_stream(kind):
    pids, modalities = random_set(1)
    whole = batches(kind(pids, modalities, 4, 2, seed=5), 16, 20)
    ranks = [batches(kind(pids, modalities, 2, 2, 5, rank, 2), 8, 20) for rank in (0, 1)]
    assert [first + second for first, second in zip(*ranks)] == whole


def test_images_of_an_identity_are_used_equally_often():
    pids, modalities = random_set(2)
    drawn = batches(CrossModalitySampler(pids, modalities, 3, 2, seed=0), 12, 300)
    uses = Counter(itertools.chain.from_iterable(drawn))
    for key in set(zip(pids, modalities)):
        counts = [uses[i] for i in range(len(pids)) if (pids[i], modalities[i]) == key]
        assert max(counts) - min(counts) <= 1


def test_identities_are_used_equally_often():
    pids, modalities = random_set(3)
    drawn = batches(CrossModalitySampler(pids, modalities, 3, 1, seed=0), 6, 30)
    uses = Counter(pids[i] for batch in drawn for i in batch)
    assert set(uses.values()) == {20}  # 30 batches x 3 identities x 2 images over 9 identities


def test_random_draws_are_independent():
    """Images as often as chance has it, and as the public codes: np.random.choice."""
    pids, modalities = ["a"] * 6 + ["b"] * 6 + ["c"] * 6, [0, 0, 0, 0, 1, 1] * 3
    drawn = batches(RandomCrossModalitySampler(pids, modalities, 1, 4, seed=0), 8, 9000)
    first, pairs = Counter(pids[one[0]] for one in drawn), Counter()
    for one, other in itertools.pairwise(drawn):
        pairs[pids[one[0]], pids[other[0]]] += 1
    assert all(abs(first[pid] / 3000 - 1) < 0.05 for pid in "abc")
    assert all(abs(pairs[one, other] / 1000 - 1) < 0.15 for one in "abc" for other in "abc")
    distinct = [len({*one[:4]}) for one in drawn], [len({*one[4:]}) for one in drawn]
    # of n images, four draws with replacement have n (1 - (1 - 1/n)^4) different ones on average
    assert np.mean(distinct, axis=1) == pytest.approx([4 * (1 - 0.75**4), 2 * (1 - 0.5**4)], 0.02)


@pytest.mark.parametrize("kind", [CrossModalitySampler, RandomCrossModalitySampler])
def test_the_seed_decides(kind):
    pids, modalities = random_set(0)
    one, same, other = (kind(pids, modalities, 2, 2, seed) for seed in (1, 1, 2))
    assert batches(one, 8, 5) == batches(same, 8, 5) != batches(other, 8, 5)


def test_an_identity_of_one_modality_is_left_out_and_named(caplog, monkeypatch):
    pids, modalities = ["a", "a", "b", "b", "c"], [0, 1, 0, 1, INFRARED]
    monkeypatch.setattr(logging.getLogger("fastreid"), "propagate", True)  # its setup stops it
    with caplog.at_level(logging.WARNING, logger="fastreid.icre"):
        sampler = CrossModalitySampler(pids, modalities, 2, 1, seed=0)
    assert sampler.usable == ["a", "b"]
    assert "identity c has no visible image" in caplog.text
    assert all(4 not in batch for batch in batches(sampler, 4, 10))


def test_too_few_identities_are_refused_not_waited_for():
    with pytest.raises(UserError, match="asks for 4 identities per batch, but only 2 training"):
        CrossModalitySampler(["a", "a", "b", "b"], [0, 1, 0, 1], 2, 1, seed=0, world_size=2)


@pytest.mark.parametrize("kind", [CrossModalitySampler, RandomCrossModalitySampler])
def test_a_stream_resumed_at_a_batch_goes_on_as_if_unbroken(kind):
    pids, modalities = random_set(4)

    def stream(start):
        sampler = kind(pids, modalities, 2, 2, seed=7)
        return iter(SeededBatchSampler(sampler, 8, seed=7, rank=0, start_batch=start))

    unbroken = list(itertools.islice(stream(0), 9))
    assert list(itertools.islice(stream(5), 4)) == unbroken[5:]


def test_augmentation_seeds_differ_by_place_rank_and_run():
    def seeds(run, rank):
        batch_sampler = SeededBatchSampler(itertools.repeat(0), 4, seed=run, rank=rank)
        return [seed for _, seed in next(iter(batch_sampler))]

    drawn = seeds(0, 0) + seeds(0, 1) + seeds(1, 0)
    assert len(set(drawn)) == len(drawn)
