"""One function per sub-command of tools/visualize.py: arguments -> Figure."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.evaluation.features import FeatureSet
from icre.evaluation.plan import prepare
from icre.evaluation.ranking_lists import PICKS, ranking_lists
from icre.plots import curves as drawn
from icre.plots.distances import draw_distances, pair_distances
from icre.plots.embedding import check_method, choose_images, draw_embedding, embed
from icre.plots.ranking import describe, draw_rankings
from icre.plots.style import COLUMN, PAGE, check_count
from icre.report.figures import sources
from icre.report.figures.people import People, choose_people, draw_attention
from icre.utils.errors import UserError


def ranking(args: argparse.Namespace) -> Figure:
    """Ranked lists of one model."""
    folder = sources.folder_of(args.features, args.root)
    perm = sources.permutation_of(args.features, args.root, args.perm)
    pick = _picked(args.pick)
    features = FeatureSet.load(args.features)
    data, chosen = prepare(features, args.protocol and [args.protocol], args.draw, perm)
    one = chosen[0]
    lists = ranking_lists(data, one.name, one.draw, perm, args.queries, args.top, pick, args.seed)
    title = "" if args.no_title else describe(one.name, one.draw)
    return draw_rankings(data, lists, folder, title, args.width or PAGE)


def _picked(words: list[str]) -> str | list[int]:
    """--pick: one of PICKS, or identities."""
    if len(words) == 1 and words[0] in PICKS:
        return words[0]
    if not all(word.isdigit() for word in words):
        raise UserError(f"--pick {' '.join(words)}: use one of {', '.join(PICKS)}, or identities")
    return [int(word) for word in words]


def distances(args: argparse.Namespace) -> Figure:
    """Distance histograms, several models side by side."""
    models = sources.load_all(args.models, args.names)
    found = {name: pair_distances(data) for name, data in tqdm(models.items(), disable=None)}
    return draw_distances(found, args.width)


def embedding(args: argparse.Namespace) -> Figure:
    """t-SNE or PCA of the same images, several models side by side."""
    check_method(args.method)
    models = sources.load_all(args.models, args.names)
    people = args.identities if args.pick is None else args.pick
    chosen = {
        name: choose_images(data, people, args.images, args.seed) for name, data in models.items()
    }
    first = next(iter(chosen.values()))
    for name, data in chosen.items():
        if data.paths.tolist() != first.paths.tolist():
            raise UserError(
                f"{name} holds features of other images than {next(iter(chosen))}: "
                "embed features of one test set"
            )
    bar = tqdm(chosen.items(), "embedding", disable=None)
    places = {name: embed(data.features, args.method, args.seed) for name, data in bar}
    return draw_embedding(places, first.pids, first.modalities, args.width)


def attention(args: argparse.Namespace) -> Figure:
    """What models look at in the same images, a block of rows per model and map."""
    runs = sources.named(args.models, args.names)
    options = ["MODEL.DEVICE", args.device]
    options += ["DATASETS.ROOT", args.root] if args.root else []
    configs = {name: sources.run_config(run, *options) for name, run in runs.items()}
    weights = {name: sources.checkpoint_of(run) for name, run in runs.items()}

    def choose(cfg: CfgNode) -> People:
        return choose_people(cfg, args.pick, args.people, args.images, args.seed)

    return draw_attention(configs, weights, choose, args.show, args.layer, args.width or PAGE)


def curves(args: argparse.Namespace) -> Figure:
    """One of CURVES."""
    return CURVES[args.kind](args)


def _cmc(args: argparse.Namespace) -> Figure:
    models = sources.named(args.models, args.names)
    check_count(list(models))
    found = {
        name: drawn.cmc(
            FeatureSet.load(model),
            args.protocol,
            args.draw,
            sources.permutation_of(model, args.root, args.perm),
            args.ranks,
        )
        for name, model in tqdm(models.items(), "ranking", disable=None)
    }
    return drawn.draw_cmc(found, args.width or COLUMN)


def _training(args: argparse.Namespace) -> Figure:
    runs = sources.named(args.models, args.names)
    scalars = {name: drawn.read_scalars(Path(run) / "scalars.json") for name, run in runs.items()}
    setting = "/".join(filter(None, (args.protocol, args.draw))) or None
    return drawn.draw_training(scalars, setting, args.width or COLUMN)


def _sweep(args: argparse.Namespace) -> Figure:
    if len(args.models) != 1:
        raise UserError(f"curves sweep draws one ablation, {len(args.models)} are named")
    file = Path(args.models[0])
    file = file / "results.json" if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"{file}: no such file; tools/ablate.py writes it")
    try:
        found = json.loads(file.read_text())
        points = _points(found)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is no result of a sweep over numbers ({error!r})") from None
    if not found.get("sweep"):
        raise UserError(
            f"{file} is not of a sweep, or was written before sweeps named their key: "
            "run tools/ablate.py SPEC.yml --table again"
        )
    setting = f"{found['protocol']}, {found['draw'] or 'no'} draw"
    return drawn.draw_sweep(found["sweep"], points, setting, args.width or COLUMN)


def _points(results: dict) -> dict[str, list[tuple[float, float, float]]]:
    """Figure -> (value, mean, std) of each row; none where the rows are not of a sweep."""
    if not results.get("sweep"):
        return {}
    return {
        name: [(float(row["row"]), row[name]["mean"], row[name]["std"]) for row in results["rows"]]
        for name in drawn.SWEPT
    }


CURVES: dict[str, Callable[[argparse.Namespace], Figure]] = {
    "cmc": _cmc,
    "training": _training,
    "sweep": _sweep,
}
