"""SynthVI: two rendered benchmarks that are fixed for good and never shipped as images.

    python tools/make_demo_data.py --benchmark SynthVI-S --root datasets/SynthVI-S/SYSU-MM01

Each has two worlds that share nothing but the settings: one to choose settings on (`--choosing`),
one to report. To change a benchmark before it is in use, edit BENCHMARKS and record its checksums:

    python tools/make_demo_data.py --benchmark SynthVI-S --record
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from .checksum import Checksum, checksum, checksum_of_tree, environment
from .checksums import CHECKSUMS, ENVIRONMENT
from .layout import DemoError, DemoOptions, Shot, plan
from .tree import encode
from tqdm import tqdm

REPORT, CHOOSE = "report", "choose"
SEEDS = {REPORT: 1, CHOOSE: 101}
PROBED = 2  # identities whose images stand for the tree in the tests

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
_RECORD = Path(__file__).with_name("checksums.py")
_HEAD = '''"""Checksums of the frozen benchmarks, written by `tools/make_demo_data.py --record`."""

from .checksum import Checksum

'''


def benchmark(name: str, choosing: bool = False) -> DemoOptions:
    """The options of a named benchmark, of the world to report or of the one to choose on.

    Raises:
        DemoError: no benchmark of that name.
    """
    if name not in BENCHMARKS:
        raise DemoError(f"benchmark {name}: choose from {', '.join(BENCHMARKS)}")
    fixed = {**vars(BENCHMARKS[name]), "seed": SEEDS[CHOOSE if choosing else REPORT]}
    return DemoOptions(**fixed)


def probe(options: DemoOptions) -> Checksum:
    """The checksum of the images of identities 1 to PROBED, rendered now.

    An image depends on nothing but the options and its own place in the plan, so a renderer that
    gives these gives the whole tree.
    """
    return _rendered(options, [s for s in plan(options).shots if s.pid <= PROBED], workers=1)


def verify(root: Path, name: str, choosing: bool = False) -> str:
    """Compare a tree on disk with the benchmark's checksum; a line that says how equal it is.

    Raises:
        DemoError: the tree holds other pictures, or its checksum was never recorded.
    """
    world = CHOOSE if choosing else REPORT
    expected = CHECKSUMS.get(f"{name} {world} tree")
    if expected is None:
        raise DemoError(
            f"{name}: the checksum of the whole tree ({world}) is not recorded; "
            f"--benchmark {name} --record renders it twice and records it"
        )
    found = checksum_of_tree(root)
    if found.sha256 == expected.sha256:
        return f"{name} ({world}): {found.images} images, the recorded bytes"
    if found.agrees(expected):
        return (
            f"{name} ({world}): {found.images} images, the recorded pictures up to rounding "
            f"(recorded with {ENVIRONMENT}, here {environment()})"
        )
    raise DemoError(
        f"{root}: {found.images} images that are not {name} ({world}, "
        f"{expected.images} images): remove the folder and render it anew"
    )


def record(name: str, workers: int = 0, whole: bool = True) -> dict[str, Checksum]:
    """Render both worlds of a benchmark without writing images, and write their checksums into
    checksums.py; `whole` False renders the probes alone and drops the checksums of whole trees."""
    kept = {key: value for key, value in CHECKSUMS.items() if key.split()[0] != name}
    made = {}
    for world in SEEDS:
        options = benchmark(name, world == CHOOSE)
        made[f"{name} {world} probe"] = probe(options)
        if whole:
            made[f"{name} {world} tree"] = _rendered(options, plan(options).shots, workers)
    _write({**kept, **made})
    return made


def _rendered(options: DemoOptions, shots: list[Shot], workers: int) -> Checksum:
    return checksum(_files(options, sorted(shots, key=lambda shot: shot.path), workers))


def _files(options: DemoOptions, shots: list[Shot], workers: int) -> Iterator[tuple[str, bytes]]:
    job, paths = partial(encode, options), [shot.path for shot in shots]
    if workers == 1:
        yield from zip(paths, map(job, shots))
        return
    with ProcessPoolExecutor(workers or None, mp_context=get_context("spawn")) as pool:
        yield from zip(
            paths,
            tqdm(pool.map(job, shots, chunksize=60), total=len(shots), desc="checksum", unit="img"),
        )


def _write(sums: dict[str, Checksum]) -> None:
    lines = [_HEAD, f'ENVIRONMENT = "{environment()}"\n\nCHECKSUMS: dict[str, Checksum] = {{\n']
    for key, value in sorted(sums.items()):
        lines.append(
            f'    "{key}": Checksum(\n        {value.images},\n        "{value.sha256}",\n'
            "        (\n"
        )
        for i in range(0, len(value.means), 8):
            row = ", ".join(map(str, value.means[i : i + 8]))
            lines.append(f"            {row},\n")
        lines.append("        ),\n    ),\n")
    _RECORD.write_text("".join(lines) + "}\n")
