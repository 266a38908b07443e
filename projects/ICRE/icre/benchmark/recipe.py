"""`benchmark recipe`: a public code's own training beside ours by the same recipe.

Their `pre_process_sysu.py` and `train.py` run in a copy of a clone (`recipe_clone`), and ours by
`icre train`. Both start from the same weights in place of downloaded ones (`starting_weights`),
whose own level is measured too. All features are scored by both codes' evaluation: the clone's
`eval_sysu` over the ten seeded galleries of its `process_gallery_sysu`, and `icre.score`.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from tabulate import tabulate

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.benchmark.recipe_clone import CODES, SHIM, Code, call, prepare, scaled
from icre.benchmark.watch import Watch
from icre.config import load_config
from icre.datasets.files import read_ids
from icre.evaluation.features import FeatureSet
from icre.evaluation.records import save
from icre.evaluation.score import score
from icre.modeling.build import build_model
from icre.modeling.pretrained import load_pretrained, pretrained_file
from icre.runs.checkpoint import write_checkpoint
from icre.utils.environment import environment
from icre.utils.errors import UserError
from icre.utils.files import read_json, replaced

PROTOCOL, DRAW = "sysu-all-single", "seeded"
METRICS = ("Rank-1", "mAP")
RANKS = 20  # the last rank that their train.py prints


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
        opts: KEY VALUE, over the config file's. Of theirs are set by the config: image size, batch,
            learning rate and the weights to start from (MODEL.BACKBONE.PRETRAIN, PRETRAIN_PATH).
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
    opts: Sequence[str] = ()

    def config(self) -> CfgNode:
        """Of our training."""
        return load_config(
            self.config_file, ["DATASETS.ROOT", str(self.data.resolve()), *self.opts]
        )


def run(options: Options, watch: Watch | None = None) -> dict[str, Any]:
    """Train and score both sides under every seed; finished trainings are not repeated.

    Raises:
        UserError: the clone is another code's, the data set is missing or has fewer than RANKS test
            identities, pretrained weights do not fit, or a training failed.
    """
    code = CODES[options.code]
    cfg = options.config()
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
            "data": cfg.DATASETS.ROOT,
            "config": cfg.dump(),
        },
    )
    for seed in options.seeds:
        starting_weights(options.out, cfg, seed)
    copy = prepare(
        options.clone, options.data, options.out, code, tuple(cfg.INPUT.SIZE_TRAIN), options.epochs
    )
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
        for side, features_of in SIDES.items():
            features = features_of(options, code, copy, seed)
            row = {"side": side, "seed": seed, **score_by_both(features, copy)}
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


def starting_weights(folder: Path, cfg: CfgNode, seed: int) -> Path:
    """A ResNet-50 for both sides, in place of ImageNet's: the config's pretrained file, or random.

    Of random weights the last batch norm of each residual block begins at 0 (torchvision's
    `zero_init_residual`, Goyal et al., 2017). Without it their features are so large that AGW's
    triplet loss is infinite in the first step.

    Raises:
        UserError: the config's file is missing or holds no ResNet-50.
    """
    path = folder / f"start_{seed}.pth"
    if not path.is_file():
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = torchvision.models.resnet50(zero_init_residual=True)
        if cfg.MODEL.BACKBONE.PRETRAIN:
            net.fc = torch.nn.Identity()  # a file of a backbone has none, and no side uses it
            load_pretrained(net, pretrained_file(cfg))
        with replaced(path) as temporary:
            torch.save(net.state_dict(), temporary)
    return path.resolve()


def untrained(options: Options, code: Code, copy: Path, seed: int) -> Path:
    """Features of our network with the starting weights, before any training."""
    features = options.out / f"start_{seed}.npz"
    if features.is_file():
        return features
    weights = options.out / f"net_{seed}.pth"
    opts = [*options.opts, *_data(options), *_start(options, seed), "MODEL.HEADS.NUM_CLASSES", 1]
    cfg = load_config(options.config_file, [str(word) for word in opts])
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # of what the starting weights do not have
        model = build_model(cfg, "cpu")
    write_checkpoint({"model": model.state_dict()}, weights)
    words = ["--config-file", options.config_file, "--weights", weights, "--out", features, *opts]
    call([sys.executable, "-m", "icre", "extract", *words], Path.cwd(), "icre extract")
    return features


def train_theirs(options: Options, code: Code, copy: Path, seed: int) -> Path:
    """Their training under a seed; returns the features of its last weights."""
    weights = (options.out / f"theirs_{seed}.t").resolve()
    cfg = options.config()
    height, width = cfg.INPUT.SIZE_TRAIN
    if not weights.is_file():
        words = ["--dataset", "sysu", "--seed", seed, "--gpu", 0, "--workers", options.workers]
        words += ["--img_h", height, "--img_w", width]
        words += ["--batch-size", cfg.SOLVER.IMS_PER_BATCH // 2 // cfg.DATALOADER.NUM_INSTANCE]
        words += ["--num_pos", cfg.DATALOADER.NUM_INSTANCE]
        words += ["--lr", cfg.SOLVER.BASE_LR * cfg.SOLVER.HEADS_LR_FACTOR]  # of the new layers
        start = starting_weights(options.out, cfg, seed)
        call(
            [sys.executable, SHIM, "train", weights, start, *words], copy, f"train.py, seed {seed}"
        )
    features = weights.with_suffix(".npz")
    if not features.is_file():
        words = ["--source", code.source, weights, "--out", features, *_data(options)]
        words += ["INPUT.SIZE_TEST", f"[{height},{width}]", "TEST.FLIP.ENABLED", False]
        call([sys.executable, "-m", "icre", "extract", *words], Path.cwd(), "icre extract")
    return features


def train_ours(options: Options, code: Code, copy: Path, seed: int) -> Path:
    """Our training under a seed; returns the features of its last weights."""
    folder = options.out / f"ours_{seed}"
    features = folder / "features.npz"
    if features.is_file():
        return features
    words = [*options.opts, *_data(options), *_start(options, seed)]
    words += ["OUTPUT_DIR", folder, "SEED", seed]
    words += ["DATASETS.NAMES", "('SYSUMM01',)", "TEST.PROTOCOLS", f"('{PROTOCOL}',)"]
    if options.epochs:
        factor = options.epochs / code.epochs
        warmup = scaled(code.warmup, factor)
        steps = [scaled(drop, factor) - warmup + 1 for drop in code.drops]
        words += ["SOLVER.MAX_EPOCH", options.epochs, "SOLVER.WARMUP_EPOCHS", float(warmup)]
        words += ["SOLVER.STEPS", str(steps)]
        # theirs stands still at (epoch + 1) / warmup; a line from 1 / warmup has the same mean
        words += ["SOLVER.WARMUP_FACTOR", 1 / warmup]
    words = ["--config-file", options.config_file, *words]
    call([sys.executable, "-m", "icre", "train", *words], Path.cwd(), f"icre train, seed {seed}")
    return features


SIDES = {"nobody": untrained, "theirs": train_theirs, "ours": train_ours}


def _data(options: Options) -> list[Any]:
    tests = ["DATASETS.TESTS", "('SYSUMM01',)", "DATASETS.ROOT", options.data.resolve()]
    return [*tests, "MODEL.DEVICE", options.device]


def _start(options: Options, seed: int) -> list[Any]:
    weights = starting_weights(options.out, options.config(), seed)
    return ["MODEL.BACKBONE.PRETRAIN", True, "MODEL.BACKBONE.PRETRAIN_PATH", weights]


def score_by_both(features: Path, copy: Path) -> dict[str, Any]:
    """{"by_ours", "by_theirs": {metric: percent}} of a file of features."""
    found = FeatureSet.load(features)
    own = next(r for r in score(found, protocols=[PROTOCOL]) if r["draw"] == DRAW)
    table = copy / "features.npz"
    np.savez(table, paths=np.array(found.paths), features=found.features)
    out = call([sys.executable, SHIM, "score", table.name], copy, "eval_metrics.py")
    return {
        "by_ours": {metric: own[metric]["mean"] for metric in METRICS},
        "by_theirs": json.loads(out.strip().splitlines()[-1]),
    }


def summary(result: dict[str, Any]) -> dict[str, dict[str, tuple[float, float]]]:
    """side -> "METRIC by CODE" -> (mean, population standard deviation over the seeds)."""
    sides: dict[str, dict[str, tuple[float, float]]] = {}
    for side in SIDES:
        rows = [row for row in result["rows"] if row["side"] == side]
        sides[side] = {}
        for by in ("by_theirs", "by_ours"):
            for metric in METRICS:
                values = [row[by][metric] for row in rows]
                sides[side][f"{metric} {by}"] = (float(np.mean(values)), float(np.std(values)))
    return sides


def text(result: dict[str, Any]) -> str:
    """A table of the starting weights and both sides, scored by both codes."""
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
