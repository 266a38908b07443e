#!/usr/bin/env python
"""Measure this project against the usual way of doing the same, in one process.

python tools/benchmark.py protocol [--features FILE] [--json OUT]
python tools/benchmark.py search [--size N] [--json OUT] [--plot PNG]
python tools/benchmark.py rerank [--json OUT] [--plot OUT.png]
python tools/benchmark.py train --config-file FILE [FILE ...] [--agw DIR] [--deen DIR]
python tools/benchmark.py infer --config-file FILE [FILE ...] [--agw DIR] [--deen DIR]
python tools/benchmark.py data --config-file FILE [--data ROOT]
python tools/benchmark.py gap --data ROOT [--json OUT]
"""

import argparse
import sys
from pathlib import Path

from icre.benchmark import data, gap, infer, protocol, rerank, search, train
from icre.utils import cli

GOLDEN = Path(__file__).resolve().parents[1] / "tests" / "golden" / "sysu.npz"
# name -> (options, job, what it says about itself)
COMMANDS = {
    "protocol": (
        lambda parser: protocol.add_arguments(parser, GOLDEN),
        protocol.run,
        "SYSU-MM01's six settings from features: one vectorised pass against loops",
    ),
    "search": (
        search.add_arguments,
        search.run,
        "a gallery's faiss indexes over a million vectors: recall and speed against exact search",
    ),
    "rerank": (
        rerank.add_arguments,
        rerank.run,
        "k-reciprocal re-ranking from 1,000 to 100,000 images against fast-reid's two functions",
    ),
    "train": (
        train.add_arguments,
        train.run,
        "training steps of our configs, a plain fast-reid and the public AGW and DEEN loops",
    ),
    "infer": (infer.add_arguments, infer.run, "feature extraction of the same"),
    "data": (
        data.add_arguments,
        data.run,
        "loaders alone: ours, with and without its cache, and fast-reid's image by image",
    ),
    "gap": (
        gap.add_arguments,
        gap.run,
        "nearest neighbours of raw pixels and histograms, within a modality and across",
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run one benchmark; 0, or 2 with one line about bad input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (add_arguments, _, text) in COMMANDS.items():
        add_arguments(commands.add_parser(name, help=text, description=text))
    args = parser.parse_args(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    COMMANDS[args.command][1](args)


if __name__ == "__main__":
    sys.exit(main())
