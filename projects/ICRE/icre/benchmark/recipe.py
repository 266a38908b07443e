"""`benchmark recipe`: a public code's own training beside ours by the same recipe.

Their `pre_process_sysu.py` and `train.py` run in a copy of a clone, changed in what `_edits` lists
(paths, image size; with `--epochs`, their schedule in proportion), and ours by `icre train`. Both
start from the same random weights in place of downloaded ones (`starting_weights`). Features of
both are scored by both codes' evaluation: the clone's `eval_sysu` over the ten seeded galleries of
its `process_gallery_sysu`, and `icre.score`.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from tabulate import tabulate

from icre.benchmark import recipe_shim
from icre.benchmark.watch import Watch
from icre.config import load_config
from icre.datasets.files import read_ids
from icre.evaluation.features import FeatureSet
from icre.evaluation.records import save
from icre.evaluation.score import score
from icre.utils.environment import environment
from icre.utils.errors import UserError
from icre.utils.files import read_json, replaced

PROTOCOL, DRAW = "sysu-all-single", "seeded"
METRICS = ("Rank-1", "mAP")
RANKS = 20  # the last rank that their train.py prints
SHIM = Path(recipe_shim.__file__)


@dataclass(frozen=True)
class Code:
    """A public code.

    Attributes:
        source: of `icre.runs.public`.
        inner: folder of train.py in the clone.
        epochs: that its train.py trains.
        drops: after which of its finished epochs the learning rate drops.
        loader_path: whether its data_loader.py has a path of its own.
        warmup: its epochs of warm-up.
    """

    source: str
    inner: str
    epochs: int
    drops: tuple[int, int]
    loader_path: bool = False
    warmup: int = 10


CODES = {
    "agw": Code("agw", ".", 81, (20, 50), loader_path=True),
    "deen": Code("deen", "DEEN", 151, (20, 80)),
}


@dataclass(frozen=True)
class Options:
    """What is trained.

    Attributes:
        code: of CODES.
        clone: of its repository.
        config_file: ours of the same recipe.
        data: DATASETS.ROOT, the folder of SYSU-MM01/.
        out: folder for the copies, runs and features.
        seeds: one training of each side each.
        epochs: of both, in place of the code's.
        workers: of their loader.
        device: MODEL.DEVICE of ours; theirs takes a GPU where there is one.
    """

    code: str
    clone: Path
    config_file: str
    data: Path
    out: Path
    seeds: Sequence[int] = (0, 1, 2)
    epochs: int | None = None
    workers: int = 4
    device: str = "auto"


def run(options: Options, watch: Watch | None = None) -> dict[str, Any]:
    """Train and score both sides under every seed; finished trainings are not repeated.

    Raises:
        UserError: the clone is another code's, the data set is missing or has fewer than RANKS test
            identities, or a training failed.
    """
    code = CODES[options.code]
    data = str(options.data.resolve())
    cfg = load_config(options.config_file, ["DATASETS.ROOT", data])
    lists = options.data / "SYSU-MM01/exp"
    if not (lists / "train_id.txt").is_file():
        raise UserError(f"--data {options.data}: it has no SYSU-MM01/exp/train_id.txt")
    people = len(read_ids(lists / "test_id.txt"))
    if people < RANKS:
        raise UserError(
            f"{lists / 'test_id.txt'}: {people} test identities: the public codes print "
            f"Rank-{RANKS}, which needs {RANKS}"
        )
    check_same(
        options.out / "settings.json",
        {
            "code": options.code,
            "epochs": options.epochs or code.epochs,
            "data": data,
            "config": cfg.dump(),
        },
    )
    copy = prepare(options, code, tuple(cfg.INPUT.SIZE_TRAIN))
    result: dict[str, Any] = {
        "code": options.code,
        "config": options.config_file,
        "epochs": options.epochs or code.epochs,
        "protocol": PROTOCOL,
        "draw": DRAW,
        "rows": [],
        "environment": environment(),
    }
    watch = watch or Watch()
    for seed in watch.each(options.seeds, "seeds"):
        for side, train in (("theirs", train_theirs), ("ours", train_ours)):
            features = train(options, code, copy, seed)
            row = {"side": side, "seed": seed, **score_by_both(features, copy, options.data)}
            result["rows"].append(row)
            watch.row(f"{side}, seed {seed}", **row)
    return result


def check_same(file: Path, settings: dict[str, Any]) -> None:
    """Write what the trainings of a folder share, or compare with what stands there.

    Raises:
        UserError: the folder's trainings are of other settings.
    """
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        save(settings, file)
        return
    found = read_json(file)
    for name, value in settings.items():
        if not isinstance(found, dict) or found.get(name) != value:
            raise UserError(f"{file.parent} holds trainings of another {name}: name another --out")


def prepare(options: Options, code: Code, size: tuple[int, int]) -> Path:
    """A copy of the clone with its edits, and the data set where it looks for it.

    Returns:
        The folder of the copy's train.py.
    """
    source = options.clone / code.inner
    missing = [name for name in ("train.py", "model.py", "pre_process_sysu.py", "eval_metrics.py")
               if not (source / name).is_file()]  # fmt: skip
    if missing:
        raise UserError(f"--clone {options.clone}: no {missing[0]} in {source}, name a clone")
    folder = options.out / "clone"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".git", "*.pyc"))
    data = folder / "data"
    data.mkdir()
    for path in (options.data / "SYSU-MM01").resolve().iterdir():
        (data / path.name).symlink_to(path)
    for name, edits in _edits(code, size, options.epochs).items():
        _edit(folder / name, edits)
    _call([sys.executable, SHIM, "run", "pre_process_sysu.py"], folder, "pre_process_sysu.py")
    return folder


def _edits(code: Code, size: tuple[int, int], epochs: int | None) -> dict[str, dict[str, str]]:
    """File -> {pattern: replacement}: everything of the clone that is changed."""
    height, width = size
    path = {r"data_path = '[^']*(?i:sysu)[^']*'": "data_path = './data/'"}
    edits = {
        "pre_process_sysu.py": {
            **path,
            r"fix_image_width = \d+": f"fix_image_width = {width}",
            r"fix_image_height = \d+": f"fix_image_height = {height}",
        },
        "train.py": dict(path),
    }
    if code.loader_path:
        edits["data_loader.py"] = {r"data_dir = '[^']*(?i:sysu)[^']*'": "data_dir = './data/'"}
    if epochs:
        factor = epochs / code.epochs
        edits["train.py"] |= {
            rf"range\(start_epoch, {code.epochs} - start_epoch\)": f"range({epochs})",
            **{
                rf"epoch (<|>=) {number}\b": rf"epoch \1 {_scaled(number, factor)}"
                # none is replaced twice
                for number in sorted({code.warmup, *code.drops}, reverse=factor > 1)
            },
            r"\(epoch \+ 1\) / 10": f"(epoch + 1) / {_scaled(code.warmup, factor)}",
        }
    return edits


def _scaled(epochs: int, factor: float) -> int:
    return max(round(epochs * factor), 1)


def _edit(path: Path, edits: dict[str, str]) -> None:
    text = path.read_text()
    for pattern, replacement in edits.items():
        text, count = re.subn(pattern, replacement, text)
        if not count:
            raise UserError(f"{path} has no {pattern!r}: the clone is of another version")
    path.write_text(text)


def starting_weights(folder: Path, seed: int) -> Path:
    """A ResNet-50 of random weights for both sides, in place of ImageNet's.

    The last batch norm of each residual block begins at 0 (torchvision's `zero_init_residual`,
    Goyal et al., 2017). Without it the features of random weights are so large that AGW's triplet
    loss is infinite in the first step.
    """
    path = folder / f"start_{seed}.pth"
    if not path.is_file():
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            state = torchvision.models.resnet50(zero_init_residual=True).state_dict()
        with replaced(path) as temporary:
            torch.save(state, temporary)
    return path.resolve()


def train_theirs(options: Options, code: Code, copy: Path, seed: int) -> Path:
    """Their training under a seed; returns the features of its last weights."""
    weights = (options.out / f"theirs_{seed}.t").resolve()
    cfg = load_config(options.config_file)
    height, width = cfg.INPUT.SIZE_TRAIN
    if not weights.is_file():
        words = ["--dataset", "sysu", "--seed", seed, "--gpu", 0, "--workers", options.workers]
        words += ["--img_h", height, "--img_w", width]
        words += ["--batch-size", cfg.SOLVER.IMS_PER_BATCH // 2 // cfg.DATALOADER.NUM_INSTANCE]
        words += ["--num_pos", cfg.DATALOADER.NUM_INSTANCE]
        start = starting_weights(options.out, seed)
        _call(
            [sys.executable, SHIM, "train", weights, start, *words], copy, f"train.py, seed {seed}"
        )
    features = weights.with_suffix(".npz")
    if not features.is_file():
        words = ["--source", code.source, weights, "--out", features, *_data(options)]
        words += ["INPUT.SIZE_TEST", f"[{height},{width}]", "TEST.FLIP.ENABLED", False]
        _call([sys.executable, "-m", "icre", "extract", *words], Path.cwd(), "icre extract")
    return features


def train_ours(options: Options, code: Code, copy: Path, seed: int) -> Path:
    """Our training under a seed; returns the features of its last weights."""
    folder = options.out / f"ours_{seed}"
    features = folder / "features.npz"
    if features.is_file():
        return features
    words = [*_data(options), "OUTPUT_DIR", folder, "SEED", seed]
    words += ["MODEL.BACKBONE.PRETRAIN", True]
    words += ["MODEL.BACKBONE.PRETRAIN_PATH", starting_weights(options.out, seed)]
    words += ["DATASETS.NAMES", "('SYSUMM01',)", "TEST.PROTOCOLS", f"('{PROTOCOL}',)"]
    if options.epochs:
        factor = options.epochs / code.epochs
        warmup = _scaled(code.warmup, factor)
        steps = [_scaled(drop, factor) - warmup + 1 for drop in code.drops]
        words += ["SOLVER.MAX_EPOCH", options.epochs, "SOLVER.WARMUP_EPOCHS", float(warmup)]
        words += ["SOLVER.STEPS", str(steps)]
    words = ["--config-file", options.config_file, *words]
    _call([sys.executable, "-m", "icre", "train", *words], Path.cwd(), f"icre train, seed {seed}")
    return features


def _data(options: Options) -> list[Any]:
    tests = ["DATASETS.TESTS", "('SYSUMM01',)", "DATASETS.ROOT", options.data.resolve()]
    return [*tests, "MODEL.DEVICE", options.device]


def score_by_both(features: Path, copy: Path, data: Path) -> dict[str, Any]:
    """{"by_ours", "by_theirs": {metric: percent}} of a file of features."""
    found = FeatureSet.load(features)
    own = next(r for r in score(found, protocols=[PROTOCOL]) if r["draw"] == DRAW)
    table = copy / "features.npz"
    np.savez(table, paths=np.array(found.paths), features=found.features)
    out = _call([sys.executable, SHIM, "score", table.name], copy, "eval_metrics.py")
    return {
        "by_ours": {metric: own[metric]["mean"] for metric in METRICS},
        "by_theirs": json.loads(out.strip().splitlines()[-1]),
    }


def _call(words: Sequence[Any], folder: Path, what: str) -> str:
    """Run a command to its end; returns what it printed.

    Raises:
        UserError: its exit status is not 0; the last line of its errors.
    """
    print(f"running {what}", flush=True)
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, text=True, capture_output=True, check=False
    )
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise UserError(f"{what} failed ({done.returncode}): {lines[-1][:300]}")
    return done.stdout


def summary(result: dict[str, Any]) -> dict[str, dict[str, tuple[float, float]]]:
    """side -> "METRIC by CODE" -> (mean, population standard deviation over the seeds)."""
    sides: dict[str, dict[str, tuple[float, float]]] = {}
    for side in ("theirs", "ours"):
        rows = [row for row in result["rows"] if row["side"] == side]
        sides[side] = {}
        for by in ("by_theirs", "by_ours"):
            for metric in METRICS:
                values = [row[by][metric] for row in rows]
                sides[side][f"{metric} {by}"] = (float(np.mean(values)), float(np.std(values)))
    return sides


def text(result: dict[str, Any]) -> str:
    """A table of both sides, scored by both codes."""
    sides = summary(result)
    rows = [
        {"trained by": side, **{name: f"{m:.2f} ± {s:.2f}" for name, (m, s) in cells.items()}}
        for side, cells in sides.items()
    ]
    seeds = len({row["seed"] for row in result["rows"]})
    return (
        f"{result['code']}: {result['epochs']} epochs, {seeds} seeds, {result['protocol']}, "
        f"{result['draw']} galleries, percent; mean ± standard deviation over the seeds\n\n"
        + tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    )
