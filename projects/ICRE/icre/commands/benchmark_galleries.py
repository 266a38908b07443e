"""Benchmarks of galleries: their indexes, their changes, and their service."""

import argparse
from collections.abc import Callable
from typing import Any


def _search_arguments(sub: argparse.ArgumentParser) -> None:
    kinds = ("ivf", "ivfpq", "hnsw")
    sub.add_argument(
        "--size", type=int, nargs="+", default=[1_000_000], help="gallery vectors (1000000)"
    )
    sub.add_argument("--dimensions", type=int, default=512, help="of a vector (512)")
    sub.add_argument("--queries", type=int, default=1000, help="in one batch (1000)")
    sub.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, help="of index (all)")
    sub.add_argument("--seed", type=int, default=0, help="of the vectors (0)")
    sub.add_argument(
        "--device", default="cpu", help="of flat and ivf, with faiss's package for GPUs (cpu)"
    )
    sub.add_argument("--plot", metavar="PNG", help="draw recall over speed")


def _search(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import search

    names = ("dimensions", "queries", "kinds", "seed", "device")
    options = {name: getattr(args, name) for name in names}
    return search, search.run(args.size, **options, watch=watch)


def _living_arguments(sub: argparse.ArgumentParser) -> None:
    kinds = ("flat", "ivf", "hnsw", "ivfpq")
    sub.add_argument("--size", type=int, default=1_000_000, help="gallery images (1000000)")
    sub.add_argument("--dimensions", type=int, default=256, help="of a vector (256)")
    sub.add_argument("--added", type=int, default=10_000, help="images (10000)")
    sub.add_argument("--removed", type=int, default=1000, help="images (1000)")
    sub.add_argument("--queries", type=int, default=100, help="in one batch (100)")
    sub.add_argument(
        "--kinds", nargs="+", choices=kinds, default=("flat", "ivf"), help="of index (flat ivf)"
    )
    sub.add_argument("--seed", type=int, default=0, help="of the vectors (0)")
    sub.add_argument(
        "--folder", metavar="DIR", help="for the galleries, which are removed (a temporary one)"
    )


def _living(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import living

    names = ("size", "dimensions", "added", "removed", "queries", "kinds", "seed", "folder")
    return living, living.run(**{name: getattr(args, name) for name in names}, watch=watch)


def _stores_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--size", type=int, default=20_000, help="gallery images (20000)")
    sub.add_argument("--dimensions", type=int, default=512, help="of a vector (512)")
    sub.add_argument("--added", type=int, default=1000, help="images, as many are removed (1000)")
    sub.add_argument("--queries", type=int, default=100, help="in one batch (100)")
    sub.add_argument("--seed", type=int, default=0, help="of the vectors (0)")
    sub.add_argument("--store", metavar="URI", help="a Milvus (default: a file of milvus-lite)")
    sub.add_argument("--store-token", metavar="FILE", dest="token_file", help="of that Milvus")


def _stores(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import stores

    names = ("size", "dimensions", "added", "queries", "seed", "store", "token_file")
    return stores, stores.run(**{name: getattr(args, name) for name in names}, watch=watch)


def _serve_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--size", type=int, default=100_000, help="gallery images (100000)")
    sub.add_argument("--index", default="flat", metavar="KIND", help="of the gallery (flat)")
    sub.add_argument(
        "--clients", type=int, nargs="+", default=(1, 8, 64), help="at a time (1 8 64)"
    )
    sub.add_argument("--requests", type=int, default=200, help="of one image, per row (200)")
    sub.add_argument("--batch", type=int, default=32, help="images at once, beside 1 (32)")
    sub.add_argument("--device", default="cpu", help="of the model (cpu)")
    sub.add_argument("--config-file", default="", metavar="FILE", help="default: a small model")
    sub.add_argument("--seed", type=int, default=0, help="of weights and vectors (0)")


def _serve(args: argparse.Namespace, watch: Any) -> tuple[Any, dict]:
    from icre.benchmark import serve

    names = ("size", "clients", "requests", "batch", "device", "config_file", "seed", "index")
    return serve, serve.run(**{name: getattr(args, name) for name in names}, watch=watch)


# as in `icre.commands.benchmark`
COMMANDS: dict[str, tuple[str, Callable, Callable]] = {
    "search": (
        "faiss indexes over a million vectors: recall and speed against exact search",
        _search_arguments,
        _search,
    ),
    "living": (
        "a gallery of a million images: opened, searched, filtered, extended, reduced",
        _living_arguments,
        _living,
    ),
    "stores": (
        "a gallery in Milvus beside those in folders: recall, latency, changes",
        _stores_arguments,
        _stores,
    ),
    "serve": (
        "search serve under load: queries a second, latency, memory",
        _serve_arguments,
        _serve,
    ),
}
