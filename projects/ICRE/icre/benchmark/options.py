"""Command line of the speed benchmarks: which rows, on what batch, size, device and data."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

import torch

from icre.benchmark.own import OwnRow
from icre.benchmark.public_loops import AgwRow, DeenRow
from icre.benchmark.rows import Row, Setup
from icre.benchmark.stock import NAME as STOCK
from icre.benchmark.stock import OPTIONS as STOCK_OPTIONS
from icre.benchmark.stock import StockRow
from icre.data.loader import build_train_set
from icre.engine.setup import load_config, resolve_device
from icre.utils.errors import UserError

AMP = {
    "fp32": ("SOLVER.AMP.ENABLED", "False"),
    "bf16": ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"),
    "fp16": ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float16"),
}
_REPOSITORIES = {
    AgwRow: "github.com/mangye16/Cross-Modal-Re-ID-baseline",
    DeenRow: "github.com/ZYK100/LLCM",
}
Builders = dict[str, Callable[[], Row]]


def add_data_arguments(parser: argparse.ArgumentParser, several: bool) -> None:
    """What all speed benchmarks take; `several`: --config-file takes more than one."""
    parser.add_argument("--config-file", nargs="+" if several else 1, required=True, metavar="FILE")
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="config overrides of every row"
    )
    parser.add_argument("--size", metavar="HxW", help="of the images (default: the first config's)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--steps", type=int, default=10, help="per row and round (10)")
    parser.add_argument("--rounds", type=int, default=3, help="rows take turns this often (3)")
    parser.add_argument("--json", metavar="OUT", help="where to write the result")


def add_row_arguments(parser: argparse.ArgumentParser) -> None:
    """What chooses the rows of `train` and `infer`."""
    add_data_arguments(parser, several=True)
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one more row: the first config with these overrides; may be repeated",
    )
    parser.add_argument("--amp", choices=list(AMP), help="of the configs (default: as each says)")
    parser.add_argument("--no-stock", action="store_true", help=f"leave {STOCK} out")
    parser.add_argument("--agw", metavar="DIR", help=f"a clone of {_REPOSITORIES[AgwRow]}")
    parser.add_argument("--deen", metavar="DIR", help=f"a clone of {_REPOSITORIES[DeenRow]}")
    parser.add_argument("--reference", metavar="ROW", help=f"ratios are to it (default: {STOCK})")


def read_setup(args: argparse.Namespace, batch: int | None, root: str | None) -> Setup:
    """The first config's batch, size and sampling, where the command line says nothing else.

    K is lowered until a batch holds two identities, without which no loss has a negative.

    Raises:
        UserError: a batch, size, number of steps or of rounds that cannot be.
    """
    if min(args.steps, args.rounds) < 1:
        raise UserError("--steps and --rounds must be at least 1")
    cfg = load_config(args.config_file[0], args.opts)
    batch = batch or cfg.SOLVER.IMS_PER_BATCH
    fits = [
        k
        for k in range(1, cfg.DATALOADER.NUM_INSTANCE + 1)
        if batch % (2 * k) == 0 and batch >= 4 * k
    ]
    if not fits:
        raise UserError(f"--batch {batch}: it must be even, and at least 4")
    setup = Setup(
        batch=batch,
        size=_size(args.size) or tuple(cfg.INPUT.SIZE_TRAIN),
        instances=max(fits),
        device=resolve_device(args.device),
        root=root,
        seed=cfg.SEED,
        workers=cfg.DATALOADER.NUM_WORKERS,
    )
    if not root:
        return setup
    classes = build_train_set(load_config(args.config_file[0], overrides(args, setup))).num_classes
    return Setup(**{**vars(setup), "classes": classes})


def overrides(args: argparse.Namespace, setup: Setup) -> list[str]:
    """Options that put any config on the same batch, size, device and data."""
    root = ["DATASETS.ROOT", setup.root] if setup.root else []
    amp = getattr(args, "amp", None)
    return [
        *args.opts,
        *(AMP[amp] if amp else ()),
        *root,
        "INPUT.SIZE_TRAIN",
        str(list(setup.size)),
        "INPUT.SIZE_TEST",
        str(list(setup.size)),
        "SOLVER.IMS_PER_BATCH",
        str(setup.batch),
        "DATALOADER.NUM_INSTANCE",
        str(setup.instances),
        "DATALOADER.NUM_WORKERS",
        str(setup.workers),
        "MODEL.DEVICE",
        str(setup.device),
        "MODEL.HEADS.NUM_CLASSES",
        str(setup.classes),
        "MODEL.BACKBONE.PRETRAIN",
        "False",
    ]


def row_builders(args: argparse.Namespace, setup: Setup) -> tuple[Builders, list[str]]:
    """Row name -> what builds it, and a line for each row that is left out.

    Every config is read here, so that a bad one is refused before anything runs.
    """
    common, first = overrides(args, setup), args.config_file[0]
    configs = {_name(path): load_config(path, common) for path in args.config_file}
    for variant in args.variant:
        pairs = [word for one in variant for word in _pair(one)]
        configs[f"{_name(first)} {' '.join(variant)}"] = load_config(first, common + pairs)
    builders: Builders = {
        name: lambda name=name, cfg=cfg: OwnRow(name, cfg, setup) for name, cfg in configs.items()
    }
    left_out = []
    if not args.no_stock:
        stock = load_config(first, [*common, *STOCK_OPTIONS, *_instances(setup)])
        builders[STOCK] = lambda: StockRow(stock, setup)
    some = next(iter(configs.values()))
    for kind, folder in ((AgwRow, args.agw), (DeenRow, args.deen)):
        if folder:
            builders[kind.name] = lambda kind=kind, folder=folder: kind(folder, some, setup)
        else:
            clone = f"name a clone of {_REPOSITORIES[kind]} with {kind.option}"
            left_out.append(f"{kind.name}: left out; {clone}")
    return builders, left_out


def reference_of(args: argparse.Namespace, names: list[str]) -> str:
    """The row that ratios are to: --reference, else fast-reid's, else the first.

    Raises:
        UserError: no row of that name.
    """
    if args.reference is None:
        return STOCK if STOCK in names else names[0]
    if args.reference not in names:
        raise UserError(f"--reference {args.reference!r}: the rows are {', '.join(names)}")
    return args.reference


def shared_facts(setup: Setup) -> dict:
    """What of the setup a result record holds."""
    return {
        "device": str(setup.device),
        "threads": torch.get_num_threads(),
        "size": list(setup.size),
        "images": f"loaded by {setup.workers} workers" if setup.root else "random, in memory",
    }


def _instances(setup: Setup) -> list[str]:
    """fast-reid's NUM_INSTANCE counts both modalities."""
    return ["DATALOADER.NUM_INSTANCE", str(2 * setup.instances)]


def _name(path: str) -> str:
    place = Path(path)
    return f"{place.resolve().parent.name}/{place.stem}"


def _pair(text: str) -> list[str]:
    if "=" not in text:
        raise UserError(f"--variant {text}: write KEY=VALUE")
    return text.split("=", 1)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--size {text}: write height x width, such as 384x144")
    return int(match[1]), int(match[2])
