"""Which images make a batch: P identities x (K visible + K infrared), reproducibly."""

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Sampler

from icre.modality import INFRARED, NAMES, VISIBLE
from icre.utils.errors import UserError
from icre.utils.numbers import count

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
        keys: what the caller's settings of batch size and num_instances are called, for messages.
    """

    extra_batches = 0  # of an epoch, behind one pass over the larger modality

    def __init__(
        self,
        pids: Sequence,
        modalities: Sequence[int],
        num_pids: int,
        num_instances: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        keys: tuple[str, str] = ("SOLVER.IMS_PER_BATCH", "DATALOADER.NUM_INSTANCE"),
    ):
        self.num_pids, self.num_instances = num_pids, num_instances
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.pools = _pools(pids, modalities)
        self.usable = _with_both_modalities(self.pools, pids)
        needed = num_pids * world_size
        if len(self.usable) < needed:
            raise UserError(
                f"{keys[0]} asks for {needed} identities per batch, but only "
                f"{len(self.usable)} training identities have images of both modalities: lower "
                f"{keys[0]} or raise {keys[1]}"
            )

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng(self.seed)
        queues: dict[tuple, list[int]] = {key: [] for key in self.pools}
        mine = slice(self.rank * self.num_pids, (self.rank + 1) * self.num_pids)
        for group in self._groups(self.num_pids * self.world_size, rng):
            # Every rank samples for all identities, so that the generators stay in step.
            chosen = [self._sample(self.usable[i], queues, rng) for i in group]
            yield from itertools.chain.from_iterable(chosen[mine])

    def _groups(self, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Places in `usable` of the identities of a batch of all ranks, without end."""
        while True:
            order = rng.permutation(len(self.usable))
            for start in range(0, len(order) - size + 1, size):
                yield order[start : start + size]

    def _sample(self, pid, queues: dict[tuple, list[int]], rng: np.random.Generator) -> list[int]:
        picked = []
        for modality in (VISIBLE, INFRARED):
            queue = queues[pid, modality]
            while len(queue) < self.num_instances:
                queue.extend(rng.permutation(self.pools[pid, modality]).tolist())
            picked += queue[: self.num_instances]
            del queue[: self.num_instances]
        return picked


class RandomCrossModalitySampler(CrossModalitySampler):
    """As `CrossModalitySampler`, but drawn as the public codes of AGW, CAJ and DEEN draw.

    The identities of a batch are drawn anew each time, so that an epoch has some more often than
    others, and images with replacement: one of few images may be several times in a batch.
    """

    extra_batches = 1

    def _groups(self, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        while True:
            yield rng.choice(len(self.usable), size, replace=False)

    def _sample(self, pid, queues: dict[tuple, list[int]], rng: np.random.Generator) -> list[int]:
        pools = (self.pools[pid, modality] for modality in (VISIBLE, INFRARED))
        drawn = [rng.choice(pool, self.num_instances).tolist() for pool in pools]
        return list(itertools.chain.from_iterable(drawn))


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


class IdentityBatchSampler(Sampler[list[int]]):
    """Batches of P identities x (K visible + K infrared) images, for torch's DataLoader.

    `CrossModalitySampler`, which see, in batches, without a config. An epoch is one pass over the
    larger modality, half of each batch being of it; the next epoch goes on with the stream.

    Args:
        pids: (N,) identity per image of the data set: integers or text.
        modalities: (N,) integers per image, 0 visible and 1 infrared.
        batch_size: images per batch (of each process), P x 2K; a multiple of 2 x num_instances.
        num_instances: K, images per identity and modality.
        seed: of the stream, from 0 on.
        start_batch: batches of the stream to skip, for a training that is resumed.
        rank, world_size: this process among all, which take disjoint identities.

    Raises:
        UserError: names the argument that does not fit: columns of other lengths, a modality that
            is none, a batch size that is no such multiple or asks for more identities than have
            images of both modalities.

    >>> import torch, icre
    >>> pids, modalities = [7, 7, 7, 8, 8, 9, 9, 9], [0, 0, 1, 0, 1, 0, 1, 1]
    >>> images = torch.rand(8, 3, 32, 16)
    >>> data = torch.utils.data.TensorDataset(
    ...     images, torch.tensor(pids), torch.tensor(modalities)
    ... )
    >>> batches = icre.IdentityBatchSampler(pids, modalities, batch_size=8, num_instances=2, seed=0)
    >>> loader = torch.utils.data.DataLoader(data, batch_sampler=batches)
    >>> for images, labels, kinds in loader:
    ...     print(tuple(images.shape), labels.unique(return_counts=True)[1], kinds)
    (8, 3, 32, 16) tensor([4, 4]) tensor([0, 0, 1, 1, 0, 0, 1, 1])
    """

    def __init__(
        self,
        pids: Sequence,
        modalities: Sequence[int],
        *,
        batch_size: int,
        num_instances: int = 4,
        seed: int = 0,
        start_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.batch_size = count("batch_size", batch_size)
        identity_size = 2 * count("num_instances", num_instances)
        if self.batch_size % identity_size:
            raise UserError(
                f"batch_size is {batch_size}: it must be a multiple of 2 x num_instances = "
                f"{identity_size}"
            )
        seed = count("seed", seed, least=0)
        start_batch = count("start_batch", start_batch, least=0)
        world_size = count("world_size", world_size)
        if count("rank", rank, least=0) >= world_size:
            raise UserError(f"rank is {rank}: with world_size {world_size} it must be below that")
        pids, modalities = _as_list(pids), _as_list(modalities)
        _check_columns(pids, modalities)
        sampler = CrossModalitySampler(
            pids,
            modalities,
            num_pids=self.batch_size // identity_size,
            num_instances=num_instances,
            seed=seed,
            rank=rank,
            world_size=world_size,
            keys=("batch_size", "num_instances"),
        )
        self._length = batches_per_epoch(modalities, self.batch_size * world_size)
        self._stream = itertools.islice(sampler, start_batch * self.batch_size, None)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(len(self)):
            yield list(itertools.islice(self._stream, self.batch_size))


def batches_per_epoch(modalities: Sequence[int], batch_size: int) -> int:
    """Batches in one pass over the larger modality, half of each batch being of it; at least 1."""
    visible = sum(m == VISIBLE for m in modalities)
    larger = max(visible, len(modalities) - visible)
    return max(larger // (batch_size // 2), 1)


def _as_list(values: Sequence) -> list:
    """Python's own numbers or text, of a list, an array or a tensor on any device."""
    return values.tolist() if hasattr(values, "tolist") else np.asarray(values).tolist()


def _check_columns(pids: list, modalities: list) -> None:
    """Raise UserError unless these are two flat columns of one length, and modalities are some."""
    if len(pids) != len(modalities):
        raise UserError(
            f"there are {len(pids)} pids and {len(modalities)} modalities: give one of each per "
            "image"
        )
    for row, (pid, modality) in enumerate(zip(pids, modalities)):
        if isinstance(pid, list) or isinstance(modality, list):
            raise UserError("pids and modalities must be (N,), one number per image")
        if modality not in (VISIBLE, INFRARED):
            allowed = ", ".join(f"{number} {name}" for number, name in enumerate(NAMES))
            raise UserError(f"modality of image {row} is {modality!r}, not one of {allowed}")


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
