"""Writes a planned tree to disk, in parallel and safely.

`demo.json` is written last and says that a tree is finished and of which arguments;
`demo.partial.json` marks one that is not, which the same arguments render anew.
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

from .layout import DemoError, DemoOptions, Shot, plan, render_shot
from PIL import Image
from tqdm import tqdm

MARKER, PARTIAL = "demo.json", "demo.partial.json"
CHUNK = 60  # images that a worker renders at a time: one identity's, roughly


def write_tree(
    root: Path, options: DemoOptions, workers: int = 0, progress: bool = True
) -> dict[str, int]:
    """Render the tree below `root` and return the number of images per folder of identities.

    `workers` processes render (0: one per core). A finished tree of the same options is left alone.
    Raises DemoError where `root` holds anything else.
    """
    if is_finished(root, options):
        return json.loads((root / MARKER).read_text())["images"]
    _claim(root, options)
    tree = plan(options)
    for path, content in tree.files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
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
    folders = Counter(Path(shot.path).parents[1].as_posix() for shot in tree.shots)
    counts = dict(sorted(folders.items()))
    _write_json(root / MARKER, {"arguments": asdict(options), "images": counts})
    (root / PARTIAL).unlink()
    return counts


def is_finished(root: Path, options: DemoOptions) -> bool:
    """Whether `root` holds the finished tree of exactly these options."""
    return _arguments(root / MARKER) == asdict(options)


def _arguments(marker: Path) -> dict | None:
    try:
        return json.loads(marker.read_text())["arguments"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no marker, or a foreign file of its name


def _claim(root: Path, options: DemoOptions) -> None:
    """Make `root` ours to write; raises DemoError where it holds somebody else's files."""
    if root.exists() and not root.is_dir():
        raise DemoError(f"{root} is a file: choose another folder")
    if (root / MARKER).exists():
        raise DemoError(
            f"{root} holds a demo of other arguments (see {MARKER} there): remove the "
            "folder or choose another"
        )
    used = root.is_dir() and any(root.iterdir())
    if used and _arguments(root / PARTIAL) != asdict(options):
        raise DemoError(
            f"{root} is not empty and not this demo: remove the folder or choose another"
        )
    root.mkdir(parents=True, exist_ok=True)
    _write_json(root / PARTIAL, {"arguments": asdict(options)})


def _write_json(path: Path, content: dict) -> None:
    """Write in one step: a killed run leaves no half file under the final name."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1))
    draft.replace(path)


def _render_all(root: Path, options: DemoOptions, shots: list[Shot], workers: int) -> Iterator[int]:
    chunks = [shots[i : i + CHUNK] for i in range(0, len(shots), CHUNK)]
    job = partial(_render_chunk, root, options)
    if workers == 1:
        yield from map(job, chunks)
        return
    with ProcessPoolExecutor(workers or None, mp_context=get_context("spawn")) as pool:
        yield from pool.map(job, chunks)


def _render_chunk(root: Path, options: DemoOptions, shots: list[Shot]) -> int:
    for shot in shots:
        (root / shot.path).write_bytes(encode(options, shot))
    return len(shots)


def encode(options: DemoOptions, shot: Shot) -> bytes:
    """The rendered image as the bytes of its file, JPEG or BMP by the ending of its path."""
    image, quality = render_shot(options, shot)
    buffer = BytesIO()
    if shot.path.endswith(".jpg"):
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    else:
        Image.fromarray(image).save(buffer, "BMP")
    return buffer.getvalue()
