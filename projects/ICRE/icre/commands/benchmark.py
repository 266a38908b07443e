"""Measure this project against the usual way of doing the same, in one process."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from icre.commands import benchmark_galleries
from icre.utils import cli
from icre.utils.files import check_output

_AGW, _DEEN = "github.com/mangye16/Cross-Modal-Re-ID-baseline", "github.com/ZYK100/LLCM"


def parser() -> argparse.ArgumentParser:
    """A sub-command for each benchmark."""
    result = argparse.ArgumentParser(description=__doc__)
    commands = result.add_subparsers(dest="command", required=True)
    for name, (text, add_arguments, job) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(job=job)
        add_arguments(sub)
        sub.add_argument(
            "--json",
            metavar="FILE",
            help="write the result there too, row by row as it is measured",
        )
        sub.add_argument("--limit", type=float, metavar="SECONDS", help="then begin nothing new")
        if name in QUICK:
            sub.add_argument(
                "--quick", action="store_true", help=f"less of it: {' '.join(QUICK[name])}"
            )
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status, and bad input ends in one line."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(words)
    if getattr(args, "quick", False):  # what is named beside --quick holds
        args = parser().parse_args([words[0], *QUICK.get(args.command, []), *words[1:]])
    return cli.run(lambda: run_all(args) if args.command == "all" else run(args))


def run(args: argparse.Namespace) -> None:
    """Run one benchmark, print its table, write and draw its result."""
    from icre.benchmark.watch import Watch
    from icre.evaluation import records

    check_output(args.json, getattr(args, "plot", None))
    benchmark, result = args.job(args, Watch(args.json, args.limit))
    print(benchmark.text(result))
    if args.json:
        records.save(result, args.json)
    if getattr(args, "plot", None):
        benchmark.save_plot(result, args.plot)


def run_all(args: argparse.Namespace) -> None:
    """Run the benchmarks that need no data, one after the other; one file holds all results."""
    from icre.benchmark.watch import Watch
    from icre.evaluation import records

    check_output(args.json)
    loops, quick = ["--config-file", *args.config_file, "--no-stock"], ["--quick"] * args.quick
    results: dict[str, Any] = {}
    total = Watch(limit=args.limit)
    for name in total.each(("train", "infer", "rerank", "search", "protocol"), "benchmarks"):
        options = loops if name in ("train", "infer") else []
        given = [name, *(QUICK[name] if quick else []), *options, "--device", args.device]
        one = parser().parse_args(given)
        rest = args.limit and max(args.limit - (perf_counter() - total.begin), 0)
        benchmark, results[name] = one.job(one, Watch(args.json, rest, results))
        print(f"\n{name}\n{benchmark.text(results[name])}\n", flush=True)
        if args.json:
            records.save(results, args.json)


def _all_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--config-file", nargs="+", required=True, metavar="FILE")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    sub.add_argument("--quick", action="store_true", help="each with its --quick")


def _protocol_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--features",
        metavar="FILE",
        help="SYSU-MM01 features (default: tests/golden/sysu.npz of the repository)",
    )
    sub.add_argument(
        "--perm", metavar="FILE", help="rand_perm_cam.mat (default: a seeded stand-in)"
    )
    sub.add_argument("--repeat", type=int, default=2, help="rounds, each side once a round (2)")
    sub.add_argument("--device", default="cpu", help="device of the vectorised side")


def _protocol(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import protocol

    return protocol, protocol.run(args.features, args.perm, args.repeat, args.device, watch)


def _rerank_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[1000, 4000, 10_000, 30_000, 100_000],
        metavar="N",
        help="images, queries and gallery together (1000 4000 10000 30000 100000)",
    )
    sub.add_argument(
        "--theirs-up-to",
        type=int,
        default=10_000,
        metavar="N",
        help="largest size for fast-reid: it holds three dense N x N matrices (10000)",
    )
    sub.add_argument("--dimensions", type=int, default=256, help="of a feature (256)")
    sub.add_argument("--repeat", type=int, default=2, help="rounds up to 10,000 images (2)")
    sub.add_argument("--seed", type=int, default=0, help="of the features (0)")
    sub.add_argument("--device", default="cpu", help="device of our side")
    sub.add_argument("--plot", metavar="PNG", help="draw time and memory over N")


def _rerank(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import rerank

    options = ("sizes", "theirs_up_to", "dimensions", "repeat", "seed", "device")
    return rerank, rerank.run(**{name: getattr(args, name) for name in options}, watch=watch)


def _speed_arguments(sub: argparse.ArgumentParser, several: bool) -> None:
    """Options of all speed benchmarks; `several`: --config-file takes more than one."""
    sub.add_argument("--config-file", nargs="+" if several else 1, required=True, metavar="FILE")
    sub.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="config overrides of every row"
    )
    sub.add_argument("--size", metavar="HxW", help="of the images (default: the first config's)")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    sub.add_argument("--steps", type=int, default=10, help="per row and round (10)")
    sub.add_argument("--rounds", type=int, default=3, help="rows take turns this often (3)")


def _loop_arguments(sub: argparse.ArgumentParser) -> None:
    """Options that choose the rows of `train` and `infer`."""
    _speed_arguments(sub, several=True)
    sub.add_argument(
        "--variant",
        nargs="+",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one more row: the first config with these overrides; may be repeated",
    )
    sub.add_argument(
        "--amp",
        choices=("fp32", "bf16", "fp16"),
        help="precision of the configs (default: each config's own)",
    )
    sub.add_argument("--no-stock", action="store_true", help="leave fast-reid's Baseline out")
    sub.add_argument("--agw", metavar="DIR", help=f"a clone of {_AGW}")
    sub.add_argument("--deen", metavar="DIR", help=f"a clone of {_DEEN}")
    sub.add_argument(
        "--reference", metavar="ROW", help="ratios are to it (default: fast-reid Baseline)"
    )


def _train_arguments(sub: argparse.ArgumentParser) -> None:
    _loop_arguments(sub)
    sub.add_argument("--batch", type=int, help="images per step (default: the first config's)")
    sub.add_argument(
        "--data",
        metavar="ROOT",
        help="DATASETS.ROOT of images that each loop loads in its own way "
        "(default: random images in memory, not augmented)",
    )
    sub.add_argument(
        "--profile",
        action="store_true",
        help="add the operations that take most of each row's step, and what bounds the step",
    )


def _train(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import train

    return train, train.run(_speed_options(args), args.profile, watch)


def _infer_arguments(sub: argparse.ArgumentParser) -> None:
    _loop_arguments(sub)
    sub.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="sizes (1 64)")
    sub.add_argument("--flip", action="store_true", help="average with the mirrored images")


def _infer(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import infer

    args.batch = 4  # of training, which is not measured here
    return infer, infer.run(_speed_options(args), args.batches, args.flip, watch)


def _data_arguments(sub: argparse.ArgumentParser) -> None:
    _speed_arguments(sub, several=False)
    sub.add_argument("--batch", type=int, help="images (default: the config's)")
    sub.add_argument("--workers", type=int, help="processes (default: the config's)")
    sub.add_argument("--data", metavar="ROOT", help="DATASETS.ROOT (default: the config's)")


def _data(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import data

    return data, data.run(_speed_options(args), args.workers, watch)


def _speed_options(args: argparse.Namespace) -> Any:
    from dataclasses import fields

    from icre.benchmark.setup import Options

    names = {field.name for field in fields(Options)}
    return Options(**{name: value for name, value in vars(args).items() if name in names})


def _gap_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--data",
        required=True,
        metavar="ROOT",
        help="folder that holds SYSU-MM01 (DATASETS.ROOT), rendered or real",
    )


def _gap(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import gap

    return gap, gap.run(args.data, watch)


def _recipe_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("code", choices=("agw", "deen"), help="whose recipe")
    sub.add_argument(
        "--clone", required=True, type=Path, metavar="DIR", help=f"of {_AGW}; deen: {_DEEN}"
    )
    sub.add_argument("--config-file", required=True, metavar="FILE", help="ours of that recipe")
    sub.add_argument(
        "--data", required=True, type=Path, metavar="ROOT", help="folder that holds SYSU-MM01/"
    )
    sub.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="for trainings and features"
    )
    sub.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    sub.add_argument(
        "--epochs", type=int, help="of both, their schedule in proportion (default: theirs)"
    )
    sub.add_argument("--workers", type=int, default=4, help="of their loader (4)")
    sub.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    sub.add_argument(
        "--opts",
        nargs="+",
        default=[],
        metavar="KEY VALUE",
        help="of our config; it gives theirs image size, batch, rate and pretrained weights",
    )


def _recipe(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from dataclasses import fields

    from icre.benchmark import recipe

    names = [field.name for field in fields(recipe.Options)]
    return recipe, recipe.run(recipe.Options(**{name: vars(args)[name] for name in names}), watch)


# name -> (description, function that adds its arguments, function that runs it)
COMMANDS: dict[str, tuple[str, Callable, Callable]] = {
    **benchmark_galleries.COMMANDS,
    "protocol": (
        "SYSU-MM01's six settings from features: one vectorised pass against loops",
        _protocol_arguments,
        _protocol,
    ),
    "rerank": (
        "k-reciprocal re-ranking from 1,000 to 100,000 images against fast-reid's functions",
        _rerank_arguments,
        _rerank,
    ),
    "train": (
        "training steps of our configs, a plain fast-reid and the public AGW and DEEN loops",
        _train_arguments,
        _train,
    ),
    "infer": ("feature extraction of the same models, on random images", _infer_arguments, _infer),
    "data": (
        "loaders alone: ours, with and without its cache, and fast-reid's image by image",
        _data_arguments,
        _data,
    ),
    "gap": (
        "nearest neighbours by raw pixels and histograms, within a modality and across",
        _gap_arguments,
        _gap,
    ),
    "recipe": (
        "a public code's own training and ours by the same recipe, scored by both codes",
        _recipe_arguments,
        _recipe,
    ),
    "all": ("train, infer, rerank, search and protocol, into one file", _all_arguments, run_all),
}

# arguments that --quick stands for
_FEW = ["--steps", "3", "--rounds", "1"]
QUICK = {
    "protocol": ["--repeat", "1"],
    "search": ["--size", "20000", "--queries", "200"],
    "rerank": ["--sizes", "1000", "4000", "--repeat", "1"],
    "train": _FEW,
    "infer": [*_FEW, "--batches", "64"],
    "data": _FEW,
}
