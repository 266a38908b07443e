"""SynthVI and SynthVI-S: benchmarks whose images are rendered on the spot and fixed by checksums.

Each has two worlds with the same settings and nothing else in common (other people, places and
cameras): `dev` to choose settings on and `test` to report. checksums.json holds the checksums of
both worlds; `record` writes it.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from synthvi.checksum import Checksum, checksum, checksum_of_tree, environment
from synthvi.layout import DemoError, DemoOptions, Shot, plan
from synthvi.writer import encode

SEEDS = {"dev": 101, "test": 1}  # of the worlds
SAMPLED = 2  # identities 1 to SAMPLED are rendered and compared by the tests

BENCHMARKS: dict[str, DemoOptions] = {
    "SynthVI-S": DemoOptions(
        ids=500,
        test_ids=100,
        height=96,
        width=48,
        train_images=4,
        test_images=10,
        difficulty="uniform",
    ),
    "SynthVI": DemoOptions(
        ids=400,
        test_ids=100,
        height=192,
        width=96,
        train_images=10,
        test_images=10,
        difficulty="muted",
    ),
}
CHECKSUMS = Path(__file__).with_name("checksums.json")


def benchmark(name: str, world: str = "test") -> DemoOptions:
    """Options of a world ("dev" or "test") of a benchmark.

    Raises:
        DemoError: `name` is not a key of BENCHMARKS.
    """
    if name not in BENCHMARKS:
        raise DemoError(f"benchmark {name}: choose from {', '.join(BENCHMARKS)}")
    return replace(BENCHMARKS[name], seed=SEEDS[world])


def recorded(name: str, world: str, part: str) -> Checksum | None:
    """The recorded checksum of a `part`, "sample" or "tree"; None if there is none."""
    entry = _read()["checksums"].get(f"{name} {world} {part}")
    return Checksum(entry["images"], entry["sha256"], tuple(entry["means"])) if entry else None


def recorded_environment() -> str:
    """`checksum.environment()` of the machine that recorded the checksums."""
    return _read()["environment"]


def sample(options: DemoOptions) -> Checksum:
    """Render the images of identities 1 to SAMPLED and return their checksum.

    An image depends on the options and its own entry in the plan only, so a renderer that
    reproduces the sample reproduces the whole tree.
    """
    return _rendered(options, [s for s in plan(options).shots if s.pid <= SAMPLED], workers=1)


def verify(root: Path, name: str, world: str = "test") -> str:
    """Compare a tree on disk with the recorded checksum; returns a line that describes the result.

    Raises:
        DemoError: the tree holds other pictures, or no checksum is recorded.
    """
    expected = recorded(name, world, "tree")
    if expected is None:
        raise DemoError(
            f"{name}: the checksum of the whole tree ({world}) is not recorded; "
            f"--benchmark {name} --record renders both worlds and records it"
        )
    found = checksum_of_tree(root)
    if found.sha256 == expected.sha256:
        return f"{name} ({world}): {found.images} images, the recorded bytes"
    if found.agrees(expected):
        return (
            f"{name} ({world}): {found.images} images, the recorded pictures up to rounding "
            f"(recorded with {recorded_environment()}, here {environment()})"
        )
    raise DemoError(
        f"{root}: {found.images} images that are not {name} ({world}, "
        f"{expected.images} images): remove the folder and render it anew"
    )


def record(name: str, workers: int = 0, whole: bool = True) -> dict[str, Checksum]:
    """Render both worlds of a benchmark in memory and write their checksums to checksums.json.

    Args:
        name: key of BENCHMARKS.
        workers: number of processes; 0 means one per core.
        whole: False renders the samples only and drops the checksums of the whole trees.

    Returns:
        The new checksums, by "<benchmark> <world> <part>".
    """
    kept = {k: v for k, v in _read()["checksums"].items() if k.split()[0] != name}
    made = {}
    for world in SEEDS:
        options = benchmark(name, world)
        made[f"{name} {world} sample"] = sample(options)
        if whole:
            made[f"{name} {world} tree"] = _rendered(options, plan(options).shots, workers)
    _write({**kept, **{key: asdict(value) for key, value in made.items()}})
    return made


def _rendered(options: DemoOptions, shots: list[Shot], workers: int) -> Checksum:
    return checksum(_files(options, sorted(shots, key=lambda shot: shot.path), workers))


def _files(options: DemoOptions, shots: list[Shot], workers: int) -> Iterator[tuple[str, bytes]]:
    job, paths = partial(encode, options), [shot.path for shot in shots]
    if workers == 1:
        yield from zip(paths, map(job, shots))
        return
    with ProcessPoolExecutor(workers or None, mp_context=get_context("spawn")) as pool:
        files = pool.map(job, shots, chunksize=60)
        yield from zip(paths, tqdm(files, total=len(shots), desc="checksum", unit="img"))


def _read() -> dict:
    return json.loads(CHECKSUMS.read_text())


def _write(entries: dict[str, dict]) -> None:
    """One line per checksum, so that a change shows in a diff as what it is."""
    lines = [f'  "{key}": {json.dumps(entries[key])}' for key in sorted(entries)]
    head = f'{{"environment": {json.dumps(environment())},\n"checksums": {{\n'
    CHECKSUMS.write_text(head + ",\n".join(lines) + "\n}}\n")
