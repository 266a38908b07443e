"""Index a folder of images here and on a cluster that is killed half-way: are the two one gallery?

`PYTHONPATH=tests python tests/cluster_at_scale.py IMAGES OUT [--workers N] [--shard N]` takes a
tiny model with random weights, and prints seconds and whether the galleries are equal row by row.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import icre.compat  # noqa: F401

from small_cluster import FILE, TOOLS, environment, rows_of, tiny_model, wait_for
from test_search import index_arguments


def main() -> int:
    """Returns 1 if they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--workers", default="2")
    parser.add_argument("--shard", default="1024")
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    tiny_model(args.out / "model")
    here, there = args.out / "here", args.out / "there"
    timed("the local command", index(args, here))
    flags = ["--cluster", "local", "--workers", args.workers]
    words = index(args, there, *flags)
    total = -(-len(rows_of(here)[0]) // int(args.shard))
    shards = args.out / "there.partial/shards"
    start = time.perf_counter()
    process = subprocess.Popen(words, env=environment())
    wait_for(lambda: len(list(shards.glob("[!.]*.parquet"))) >= total // 2, process, 3600)
    process.kill()
    process.wait()
    done = len(list(shards.glob("[!.]*.parquet")))
    seconds = time.perf_counter() - start
    print(f"killed after {seconds:.0f} s with {done} of {total} shards", flush=True)
    timed("the same command again", words)
    (rows, features), (others, other_features) = rows_of(here), rows_of(there)
    same = rows == others and len(rows) == len(features)
    largest = float(np.abs(features - other_features).max())
    print(
        f"{len(rows)} rows, {features.shape[1]} dimensions: rows equal: {same}; features equal "
        f"bit by bit: {np.array_equal(features, other_features)}, largest difference {largest:g}"
    )
    shutil.rmtree(args.out / "model")
    return 0 if same and largest < 2e-6 else 1


def index(args: argparse.Namespace, out: Path, *flags: str) -> list[str]:
    """The command line of an index."""
    words = index_arguments(args.out / "model" / FILE, out, args.images)
    return [sys.executable, str(TOOLS / "search.py"), *words, "--shard", args.shard, *flags]


def timed(what: str, words: list[str]) -> None:
    """Run a command to its end."""
    start = time.perf_counter()
    subprocess.run(words, env=environment(), check=True)
    print(f"{what}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
