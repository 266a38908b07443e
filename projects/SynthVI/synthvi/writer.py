"""Write a planned tree to disk, in parallel, so that an interrupted run cannot be mistaken for one.

`demo.json` is written last: it marks a finished tree and holds its options. `demo.partial.json`
marks an unfinished one, which a run with the same options renders anew.
"""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from synthvi.layout import DemoError, DemoOptions, Shot, plan, render_shot

MARKER, PARTIAL = "demo.json", "demo.partial.json"
CHUNK = 60  # images that a process renders at a time: about one identity's


def write_tree(
    root: Path, options: DemoOptions, workers: int = 0, progress: bool = True
) -> dict[str, int]:
    """Render a tree below `root`; a finished tree of the same options is left alone.

    Args:
        root: folder to write; new, empty, or with an unfinished tree of the same options.
        options: what to render.
        workers: number of processes; 0 means one per core.
        progress: whether to show a progress bar.

    Returns:
        Number of images per folder of identities.

    Raises:
        DemoError: `root` holds anything else.
    """
    if is_finished(root, options):
        return json.loads((root / MARKER).read_text())["images"]
    _reserve(root, options)
    tree = plan(options)
    for path, content in tree.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        _write(root / path, content)
    for folder in sorted({Path(shot.path).parent for shot in tree.shots}):
        (root / folder).mkdir(parents=True, exist_ok=True)
    with tqdm(
        total=len(tree.shots),
        desc=f"rendering {options.layout}",
        unit="img",
        mininterval=0.5,
        disable=not progress,
    ) as bar:
        for done in _render_all(root, options, tree.shots, workers):
            bar.update(done)
    folders = Counter(_folder(shot.path) for shot in tree.shots)
    counts = dict(sorted(folders.items()))
    _write_json(root / MARKER, {"arguments": asdict(options), "images": counts})
    (root / PARTIAL).unlink()
    return counts


def _folder(path: str) -> str:
    """The folder that an image is counted under: above that of its identity, if there is one."""
    parents = Path(path).parents  # of a/b.jpg: a, .
    return parents[1 if len(parents) > 2 else 0].as_posix()


def is_finished(root: Path, options: DemoOptions) -> bool:
    """Whether `root` holds a finished tree of exactly these options."""
    return _options_in(root / MARKER) == asdict(options)


def encode(options: DemoOptions, shot: Shot) -> bytes:
    """Render an image and encode it as JPEG or BMP, by the suffix of its path."""
    image, quality = render_shot(options, shot)
    buffer = BytesIO()
    if shot.path.endswith(".jpg"):
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    else:
        Image.fromarray(image).save(buffer, "BMP")
    return buffer.getvalue()


def _options_in(marker: Path) -> dict | None:
    try:
        return json.loads(marker.read_text())["arguments"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no marker, or another program's file of the same name


def _reserve(root: Path, options: DemoOptions) -> None:
    """Create `root` and mark it unfinished; raises DemoError if it holds other files."""
    if root.exists() and not root.is_dir():
        raise DemoError(f"{root} is a file: choose another folder")
    if (root / MARKER).exists():
        raise DemoError(
            f"{root} holds a demo of other arguments (see {MARKER} there): remove the "
            "folder or choose another"
        )
    # hidden: a draft of a killed process, a lock
    used = root.is_dir() and any(not path.name.startswith(".") for path in root.iterdir())
    if used and _options_in(root / PARTIAL) != asdict(options):
        raise DemoError(
            f"{root} is not empty and not this demo: remove the folder or choose another"
        )
    root.mkdir(parents=True, exist_ok=True)
    _write_json(root / PARTIAL, {"arguments": asdict(options)})


def _write_json(path: Path, content: dict) -> None:
    _write(path, json.dumps(content, indent=1).encode())


def _write(path: Path, content: bytes) -> None:
    """Write atomically: a full disk or a kill leaves no half-written file under the final name."""
    draft = path.with_name(f".{path.name}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _render_all(root: Path, options: DemoOptions, shots: list[Shot], workers: int) -> Iterator[int]:
    """Render in chunks; yields the number of images of each finished chunk."""
    chunks = [shots[i : i + CHUNK] for i in range(0, len(shots), CHUNK)]
    job = partial(_render_chunk, root, options)
    if workers == 1:
        yield from map(job, chunks)
        return
    with ProcessPoolExecutor(workers or None, mp_context=get_context("spawn")) as pool:
        yield from pool.map(job, chunks)


def _render_chunk(root: Path, options: DemoOptions, shots: list[Shot]) -> int:
    for shot in shots:
        _write(root / shot.path, encode(options, shot))
    return len(shots)
