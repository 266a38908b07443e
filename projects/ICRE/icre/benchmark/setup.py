"""Options of the speed benchmarks: which loops, on what batch, size, device and data."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from icre.benchmark.loops import FASTREID, FASTREID_OPTIONS, ConfigLoop, FastReidLoop, Loop, Setup
from icre.benchmark.public_loops import AgwLoop, DeenLoop, locate_clone
from icre.config import load_config
from icre.data.loader import build_train_set
from icre.utils.device import resolve_device
from icre.utils.errors import UserError

_AMP = {
    "fp32": ("SOLVER.AMP.ENABLED", "False"),
    "bf16": ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "bfloat16"),
    "fp16": ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", "float16"),
}
Builders = dict[str, Callable[[], Loop]]


@dataclass(frozen=True)
class Options:
    """Command-line options of the speed benchmarks; `icre.commands.benchmark` describes them."""

    config_file: Sequence[str]
    opts: Sequence[str] = ()
    size: str | None = None
    device: str = "auto"
    steps: int = 10
    rounds: int = 3
    batch: int | None = None
    data: str | None = None
    variant: Sequence[Sequence[str]] = ()
    amp: str | None = None
    no_stock: bool = False
    agw: str | None = None
    deen: str | None = None
    reference: str | None = None


def read_setup(options: Options) -> Setup:
    """The first config's batch, size and sampling, where the options do not override them.

    K is lowered until a batch holds two identities, without which no loss has a negative.

    Raises:
        UserError: an impossible batch, size, number of steps or of rounds.
    """
    if min(options.steps, options.rounds) < 1:
        raise UserError("--steps and --rounds must be at least 1")
    cfg = load_config(options.config_file[0], list(options.opts))
    batch = options.batch or cfg.SOLVER.IMS_PER_BATCH
    fits = [
        k
        for k in range(1, cfg.DATALOADER.NUM_INSTANCE + 1)
        if batch % (2 * k) == 0 and batch >= 4 * k
    ]
    if not fits:
        raise UserError(f"--batch {batch}: it must be even, and at least 4")
    setup = Setup(
        batch=batch,
        size=_size(options.size) or tuple(cfg.INPUT.SIZE_TRAIN),
        instances=max(fits),
        device=resolve_device(options.device),
        root=options.data,
        seed=cfg.SEED,
        workers=cfg.DATALOADER.NUM_WORKERS,
    )
    if not options.data:
        return setup
    cfg = load_config(options.config_file[0], overrides(options, setup))
    return replace(setup, classes=build_train_set(cfg).num_classes)


def overrides(options: Options, setup: Setup) -> list[str]:
    """KEY VALUE words that put any config on the same batch, size, device and data."""
    shared = {
        "INPUT.SIZE_TRAIN": list(setup.size),
        "INPUT.SIZE_TEST": list(setup.size),
        "SOLVER.IMS_PER_BATCH": setup.batch,
        "DATALOADER.NUM_INSTANCE": setup.instances,
        "DATALOADER.NUM_WORKERS": setup.workers,
        "MODEL.DEVICE": setup.device,
        "MODEL.HEADS.NUM_CLASSES": setup.classes,
        "MODEL.BACKBONE.PRETRAIN": False,
    }
    if setup.root:
        shared["DATASETS.ROOT"] = setup.root
    words = [word for key, value in shared.items() for word in (key, str(value))]
    return [*options.opts, *(_AMP[options.amp] if options.amp else ()), *words]


def fastreid_overrides(options: Options, setup: Setup) -> list[str]:
    """`overrides` for the plain fast-reid, whose NUM_INSTANCE counts both modalities."""
    instances = ("DATALOADER.NUM_INSTANCE", str(2 * setup.instances))
    return [*overrides(options, setup), *FASTREID_OPTIONS, *instances]


def loop_builders(options: Options, setup: Setup) -> tuple[Builders, list[str]]:
    """Row name -> function that builds its loop, and a line for each loop that is left out.

    Every config is read and every clone looked for here, so that a wrong one is refused before
    anything runs.
    """
    common, first = overrides(options, setup), options.config_file[0]
    configs = {_name(path): load_config(path, common) for path in options.config_file}
    for variant in options.variant:
        pairs = [word for one in variant for word in _pair(one)]
        configs[f"{_name(first)} {' '.join(variant)}"] = load_config(first, common + pairs)
    builders: Builders = {
        name: lambda name=name, cfg=cfg: ConfigLoop(name, cfg, setup)
        for name, cfg in configs.items()
    }
    if not options.no_stock:
        plain = load_config(first, fastreid_overrides(options, setup))
        builders[FASTREID] = lambda: FastReidLoop(plain, setup)
    left_out = []
    some = next(iter(configs.values()))
    for kind, folder in ((AgwLoop, options.agw), (DeenLoop, options.deen)):
        if folder:
            locate_clone(kind.option, folder, kind.inner)
            builders[kind.name] = lambda kind=kind, folder=folder: kind(folder, some, setup)
        else:
            clone = f"name a clone of {kind.repository} with {kind.option}"
            left_out.append(f"{kind.name}: left out; {clone}")
    return builders, left_out


def reference_row(options: Options, names: list[str]) -> str:
    """The row that ratios are to: --reference, else fast-reid's, else the first.

    Raises:
        UserError: no row of that name.
    """
    if options.reference is None:
        return FASTREID if FASTREID in names else names[0]
    if options.reference not in names:
        raise UserError(f"--reference {options.reference!r}: the rows are {', '.join(names)}")
    return options.reference


def conditions(setup: Setup) -> dict:
    """The part of the setup that a result holds."""
    return {
        "device": str(setup.device),
        "threads": torch.get_num_threads(),
        "size": list(setup.size),
        "images": f"loaded by {setup.workers} workers" if setup.root else "random, in memory",
    }


def _name(path: str) -> str:
    file = Path(path)
    return f"{file.resolve().parent.name}/{file.stem}"


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
