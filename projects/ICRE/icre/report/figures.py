"""Figures of runs and feature files: one function per sub-command of tools/visualize.py."""

import math
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from icre.datasets.sysu import SYSUMM01
from icre.evaluation.features import FeatureSet
from icre.evaluation.ranking_lists import PICKS, ranking_lists
from icre.evaluation.trials import build_trials
from icre.inference.extractor import FeatureExtractor
from icre.inference.run import Run, find_model, name_sources
from icre.plots.curves import SWEPT, cmc, draw_cmc, draw_sweep, draw_training
from icre.plots.distances import draw_distances, pair_distances
from icre.plots.embedding import check_method, choose_images, draw_embedding, embed
from icre.plots.ranking import describe, draw_rankings
from icre.plots.style import COLUMN, PAGE, check_count
from icre.report.attention import check_shown, choose_people, draw_attention
from icre.utils.errors import UserError
from icre.utils.files import read_json
from icre.utils.progress import progress_bar


def ranking(
    features: str,
    protocol: str | None,
    draw: str | None,
    perm: str | None,
    root: Path | None,
    pick: Sequence[str],
    queries: int,
    top: int,
    seed: int,
    no_title: bool,
    width: float | None,
) -> Figure:
    """Ranking lists of one model.

    Args:
        features: a run folder or a feature file.
        protocol, draw: protocol and gallery sampling, as `icre.evaluation.score.score` has them.
        perm: rand_perm_cam.mat; None: the data set's.
        root: the data set's folder; None: the run's.
        pick: one of PICKS, or identities.
        queries, top: how many lists, and how long.
        seed: of a random choice.
        no_title: leave out the line above.
        width: inches; None: a page.
    """
    folder, known = _image_folder(features, root)
    permutation_file = _permutation_file(features, root, perm)
    chosen_by = _parse_pick(pick)
    loaded = FeatureSet.load(features)
    data, (trials, *_) = build_trials(loaded, protocol and [protocol], draw, permutation_file)
    lists = ranking_lists(
        data, trials.name, trials.draw, permutation_file, queries, top, chosen_by, seed
    )
    title = "" if no_title else describe(trials.name, trials.draw)
    return draw_rankings(data, lists, folder, title, width or PAGE, known)


def _parse_pick(words: Sequence[str]) -> str | list[int]:
    if len(words) == 1 and words[0] in PICKS:
        return words[0]
    if not all(word.isdigit() for word in words):
        raise UserError(f"--pick {' '.join(words)}: use one of {', '.join(PICKS)}, or identities")
    return [int(word) for word in words]


def distances(models: Sequence[str], names: Sequence[str] | None, width: float | None) -> Figure:
    """Distance histograms, several models side by side.

    Args:
        models: run folders or feature files.
        names: of the models; None: those of the folders and files.
        width: inches; None: a column or a page.
    """
    loaded = _load_features(models, names)
    pairs = {name: pair_distances(data) for name, data in progress_bar(loaded.items(), "distances")}
    return draw_distances(pairs, width)


def embedding(
    models: Sequence[str],
    names: Sequence[str] | None,
    method: str,
    identities: int,
    pick: Sequence[int] | None,
    images: int,
    seed: int,
    width: float | None,
) -> Figure:
    """t-SNE or PCA of the same images, several models side by side.

    Args:
        models, names, width: as in `distances`.
        method: a key of `icre.plots.embedding.METHODS`.
        identities: how many people, chosen at random.
        pick: these identities instead.
        images: of an identity in a modality, at most.
        seed: of the choice and of t-SNE.
    """
    check_method(method)
    people = identities if pick is None else pick
    chosen = {
        name: choose_images(data, people, images, seed)
        for name, data in _load_features(models, names).items()
    }
    first_name, first = next(iter(chosen.items()))
    for name, data in chosen.items():
        if data.paths.tolist() != first.paths.tolist():
            raise UserError(
                f"{name} holds features of other images than {first_name}: "
                "embed features of one test set"
            )
    shown = progress_bar(chosen.items(), "embedding")
    points = {name: embed(data.features, method, seed) for name, data in shown}
    return draw_embedding(points, first.pids, first.modalities, width)


def attention(
    models: Sequence[str],
    names: Sequence[str] | None,
    root: str | None,
    device: str,
    show: Sequence[str],
    layer: str,
    pick: Sequence[int] | None,
    people: int,
    images: int,
    seed: int,
    width: float | None,
) -> Figure:
    """Attention maps over the same images, a block of rows per model and map.

    Args:
        models: run folders or checkpoints.
        names: as in `distances`.
        root: DATASETS.ROOT, if it is not the first model's.
        device: MODEL.DEVICE.
        show, layer: see `icre.report.attention.draw_attention`.
        pick, people, images, seed: see `icre.report.attention.choose_people`.
        width: inches; None: a page.
    """
    check_shown(show)
    options = ["MODEL.DEVICE", device, *(["DATASETS.ROOT", root] if root else [])]
    sources = name_sources(models, names)
    found = {name: find_model(source, *options) for name, source in sources.items()}
    first_cfg, _ = next(iter(found.values()))
    chosen = choose_people(first_cfg, pick, people, images, seed)
    extractors = ((name, FeatureExtractor(*model)) for name, model in found.items())
    return draw_attention(extractors, chosen, show, layer, width or PAGE)


def curves(kind: str, **options: Any) -> Figure:
    """One of CURVES, with those of the options that it takes; see `_cmc`, `_training`, `_sweep`."""
    return CURVES[kind](**options)


def _cmc(
    models: Sequence[str],
    names: Sequence[str] | None,
    protocol: str | None,
    draw: str | None,
    perm: str | None,
    root: Path | None,
    ranks: int,
    width: float | None,
) -> Figure:
    sources = name_sources(models, names)
    check_count(list(sources))
    found = {
        name: cmc(
            FeatureSet.load(source), protocol, draw, _permutation_file(source, root, perm), ranks
        )
        for name, source in progress_bar(sources.items(), "ranking")
    }
    return draw_cmc(found, width or COLUMN)


def _training(
    models: Sequence[str],
    names: Sequence[str] | None,
    protocol: str | None,
    draw: str | None,
    width: float | None,
    **_: object,
) -> Figure:
    sources = name_sources(models, names)
    scalars = {name: Run(source, name).scalars for name, source in sources.items()}
    setting = "/".join(filter(None, (protocol, draw))) or None
    return draw_training(scalars, setting, width or COLUMN)


def _sweep(models: Sequence[str], width: float | None, **_: object) -> Figure:
    if len(models) != 1:
        raise UserError(f"curves sweep draws one ablation, {len(models)} are named")
    file = Path(models[0])
    file = file / "results.json" if file.is_dir() else file
    if not file.is_file():
        raise UserError(f"{file}: no such file; tools/ablate.py writes it")
    found = read_json(file)
    if isinstance(found, dict) and not found.get("sweep"):
        raise UserError(
            f"{file} is not of a sweep, or was written before sweeps named their key: "
            "run tools/ablate.py SPEC.yml --table again"
        )
    try:
        key, protocol, draw = (found[name] for name in ("sweep", "protocol", "draw"))
        if not all(isinstance(text, str) for text in (key, protocol, draw or "")):
            raise TypeError("sweep, protocol and draw are names")
        if not found["rows"]:
            raise ValueError("no rows")
        points = {name: [_sweep_point(row, row[name]) for row in found["rows"]] for name in SWEPT}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{file} is no result of a sweep over numbers ({error!r})") from None
    return draw_sweep(key, points, f"{protocol}, {draw or 'no'} draw", width or COLUMN)


def _sweep_point(row: dict, metric: dict) -> tuple[float, float, float]:
    """(value, mean, std) of a row."""
    point = float(row["row"]), float(metric["mean"]), float(metric["std"])
    if not (all(map(math.isfinite, point)) and point[2] >= 0):
        raise ValueError(f"row {row['row']}: {point}")
    return point


CURVES: dict[str, Callable[..., Figure]] = {"cmc": _cmc, "training": _training, "sweep": _sweep}


def _load_features(models: Sequence[str], names: Sequence[str] | None) -> dict[str, FeatureSet]:
    return {name: FeatureSet.load(source) for name, source in name_sources(models, names).items()}


def _run_of(features: str) -> Run | None:
    """The run that features are of: the folder, or that of the file; None if it is no run."""
    path = Path(features)
    run = Run(path if path.is_dir() else path.parent)
    return run if run.files.config.is_file() else None


def _image_folder(features: str, root: Path | None) -> tuple[Path, Container[str]]:
    """The folder that the features' paths are relative to: `root`, else the run's data set.

    Returns:
        The folder, and the paths of the run's own images (none for `root`).

    Raises:
        UserError: neither is known.
    """
    if root is not None:
        if not root.is_dir():
            raise UserError(f"--root {root}: no such folder")
        return root, ()
    run = _run_of(features)
    if run is None:
        raise UserError(
            f"{features}: no run, so where its images lie is not known: add --root "
            "DATASET, such as datasets/SYSU-MM01"
        )
    return run.dataset.folder, run.images


def _permutation_file(features: str, root: Path | None, perm: str | None) -> Path | None:
    """The official gallery sampling's file: `perm`, else the data set's; None if it has none."""
    if perm is not None:
        return Path(perm)
    if root is None:
        run = _run_of(features)
        return run.permutation_file if run else None
    file = SYSUMM01.permutation_below(_image_folder(features, root)[0])
    return file if file.is_file() else None
