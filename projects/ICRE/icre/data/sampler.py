"""Which images make a batch: P identities x (K visible + K infrared), reproducibly."""

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

from icre.modality import INFRARED, NAMES, VISIBLE
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")


class CrossModalitySampler(Sampler[int]):
    """An endless stream of indices, P x 2K of them per batch and rank.

    Strategy:
        1. Shuffle the identities that have images of both modalities.
        2. Take the next P for each rank; the remainder of a shuffle is dropped.
        3. For each identity yield K visible, then K infrared indices. Each identity and modality
           has its own shuffled list, used up before it is shuffled again, so that over time every
           image of an identity is seen equally often.

    Behaviour in corner cases:
        - An identity with one modality only is left out, with a warning.
        - Fewer than K images of a modality: they repeat within the batch.
        - Fewer usable identities than P x world size: UserError (it would never yield a batch).
        - All ranks generate the same stream and take disjoint identities of it.

    Args:
        pids: identity per image.
        modalities: VISIBLE or INFRARED per image.
        num_pids: P, identities per rank and batch.
        num_instances: K, images per identity and modality.
        seed: of the stream; the same on every rank.
        rank, world_size: this process among all.
    """

    def __init__(
        self,
        pids: Sequence,
        modalities: Sequence[int],
        num_pids: int,
        num_instances: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.num_pids, self.num_instances = num_pids, num_instances
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.pools = _pools(pids, modalities)
        self.usable = _with_both_modalities(self.pools, pids)
        needed = num_pids * world_size
        if len(self.usable) < needed:
            raise UserError(
                f"SOLVER.IMS_PER_BATCH asks for {needed} identities per batch, but only "
                f"{len(self.usable)} training identities have images of both modalities: lower "
                f"SOLVER.IMS_PER_BATCH or raise DATALOADER.NUM_INSTANCE"
            )

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng(self.seed)
        queues: dict[tuple, list[int]] = {key: [] for key in self.pools}
        group = self.num_pids * self.world_size
        mine = slice(self.rank * self.num_pids, (self.rank + 1) * self.num_pids)
        while True:
            order = rng.permutation(len(self.usable))
            for start in range(0, len(order) - group + 1, group):
                # Every rank samples for all identities, so that the generators stay in step.
                chosen = [self._sample(self.usable[i], queues, rng) for i in order[start:][:group]]
                yield from itertools.chain.from_iterable(chosen[mine])

    def _sample(self, pid, queues: dict[tuple, list[int]], rng: np.random.Generator) -> list[int]:
        picked = []
        for modality in (VISIBLE, INFRARED):
            queue = queues[pid, modality]
            while len(queue) < self.num_instances:
                queue.extend(rng.permutation(self.pools[pid, modality]).tolist())
            picked += queue[: self.num_instances]
            del queue[: self.num_instances]
        return picked


def _pools(pids: Sequence, modalities: Sequence[int]) -> dict[tuple, list[int]]:
    """{(pid, modality): indices of its images}."""
    pools: dict[tuple, list[int]] = {}
    for index, key in enumerate(zip(pids, modalities, strict=True)):
        pools.setdefault(key, []).append(index)
    return pools


def _with_both_modalities(pools: dict[tuple, list[int]], pids: Sequence) -> list:
    usable = []
    for pid in sorted(set(pids)):
        missing = [NAMES[m] for m in (VISIBLE, INFRARED) if (pid, m) not in pools]
        if missing:
            logger.warning("identity %s has no %s image: left out of training", pid, missing[0])
        else:
            usable.append(pid)
    return usable


class IsolatedRandom:
    """While entered, NumPy's and torch's global generators have a state of their own.

    fast-reid's samplers use the global generators, as the model, evaluations and other samplers do;
    with this a sampler's stream depends on its seed alone.

    Args:
        seed: of both.
    """

    def __init__(self, seed: int):
        generator = torch.Generator()
        generator.manual_seed(seed)
        self._state = np.random.RandomState(seed % 2**32).get_state(), generator.get_state()

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *error) -> None:
        self._swap()

    def _swap(self) -> None:
        state, self._state = self._state, (np.random.get_state(), torch.get_rng_state())
        np.random.set_state(state[0])
        torch.set_rng_state(state[1])


class SeededBatchSampler(Sampler[list[tuple[int, int]]]):
    """Groups a sampler's indices into batches of (index, seed of its augmentation).

    The seed is a function of (run seed, rank, position in the stream) alone, so a run gives the
    same images with any number of workers, and a resumed run continues as if uninterrupted.

    Args:
        sampler: an endless stream of indices, ours or fast-reid's.
        batch_size: images per batch of this rank.
        seed, rank: see above.
        start_batch: batches to skip; only their indices are generated.
    """

    def __init__(
        self, sampler: Sampler[int], batch_size: int, seed: int, rank: int, start_batch: int = 0
    ):
        self.sampler, self.batch_size = sampler, batch_size
        self.seed, self.rank, self.start_batch = seed, rank, start_batch

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        isolated = IsolatedRandom(self.seed)
        positions = enumerate(self.sampler)
        stream = itertools.islice(positions, self.start_batch * self.batch_size, None)
        while True:
            with isolated:
                batch = list(itertools.islice(stream, self.batch_size))
            if not batch:
                return
            yield [(int(index), self._augmentation_seed(position)) for position, index in batch]

    def _augmentation_seed(self, position: int) -> int:
        return int(np.random.SeedSequence((self.seed, self.rank, position)).generate_state(1)[0])
