"""Features on a plane, by identity (colour) and modality (shape): the paper's Fig. 4 d-f."""

import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from icre.evaluation.features import FeatureSet
from icre.modality import INFRARED, NAMES, VISIBLE
from icre.plots.style import COLOURS, COLUMN, GRAY, PAGE, new_figure, styled
from icre.utils.errors import UserError

SHAPES = {VISIBLE: "o", INFRARED: "^"}


def _tsne(unit: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE  # slow to import, and not always wanted

    perplexity = min(30.0, (len(unit) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(unit)


def _pca(unit: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.decomposition import PCA

    return PCA(2, random_state=seed).fit_transform(unit)


# (N, D) unit vectors, seed -> (N, 2). t-SNE: van der Maaten and Hinton, JMLR 2008.
METHODS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"tsne": _tsne, "pca": _pca}


def choose_images(
    data: FeatureSet, identities: int | Sequence[int] = 8, images: int = 20, seed: int = 0
) -> FeatureSet:
    """Images of some people who are seen in both modalities.

    Args:
        data: in any order; the choice depends neither on it nor on the features.
        identities: how many, at random; or which.
        images: at most as many of an identity in a modality, at random.
        seed: of both choices.

    Raises:
        UserError: an identity that is not seen in both modalities, or too few of them.
    """
    data = data.ordered()
    both = sorted(
        set(data.pids[data.modalities == VISIBLE].tolist())
        & set(data.pids[data.modalities == INFRARED].tolist())
    )
    if images < 1:
        raise UserError(f"--images {images}: at least 1 is needed")
    generator = random.Random(seed)
    if isinstance(identities, int):
        if not 1 <= identities <= len(both):
            raise UserError(
                f"{identities} identities are asked for; {len(both)} are seen in both modalities"
            )
        identities = sorted(generator.sample(both, identities))
    rows: list[int] = []
    for pid in identities:
        if pid not in both:
            raise UserError(
                f"identity {pid} is not seen in both modalities; {len(both)} are, such "
                f"as {', '.join(map(str, both[:8]))}"
            )
        for modality in SHAPES:
            found = np.flatnonzero((data.pids == pid) & (data.modalities == modality)).tolist()
            rows += generator.sample(found, min(images, len(found)))
    if len(rows) < 4:
        raise UserError(f"{len(rows)} images are too few for an embedding: choose more")
    return data.take(np.array(rows))


def check_method(method: str) -> None:
    """Raise UserError unless `method` is a key of `METHODS`; for a check before long work."""
    if method not in METHODS:
        raise UserError(f"--method {method}: use {', '.join(METHODS)}")


def embed(features: np.ndarray, method: str = "tsne", seed: int = 0) -> np.ndarray:
    """(N, D) features, normalised here -> (N, 2) points, by a key of `METHODS`."""
    check_method(method)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return METHODS[method](unit.astype(np.float64), seed)


@styled
def draw_embedding(
    models: Mapping[str, np.ndarray],
    pids: np.ndarray,
    modalities: np.ndarray,
    width: float | None = None,
) -> Figure:
    """One panel per model.

    A line joins the medians of an identity's two modalities, with its number at the visible one, as
    colours repeat after eight identities.

    Args:
        models: name -> points (N, 2) of the same images.
        pids, modalities: (N,) of the images.
        width: inches; default: a column for one or two models, else a page.
    """
    width = width or (COLUMN if len(models) <= 2 else PAGE)
    figure = new_figure(width, width / len(models) + 0.45)
    for axes, name in zip(figure.subplots(1, len(models), squeeze=False)[0], models):
        _scatter(axes, models[name], pids, modalities)
        axes.set(title=name, xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        axes.set_box_aspect(1)
        axes.margins(0.12)
    marks = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=shape,
            markeredgecolor=GRAY,
            label=NAMES[one],
            markerfacecolor=GRAY if one == VISIBLE else "none",
        )
        for one, shape in SHAPES.items()
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=2, handletextpad=0)
    return figure


def _scatter(axes: Axes, points: np.ndarray, pids: np.ndarray, modalities: np.ndarray) -> None:
    for number, pid in enumerate(np.unique(pids)):
        colour = COLOURS[number % len(COLOURS)]
        clouds = {one: points[(pids == pid) & (modalities == one)] for one in SHAPES}
        for modality, cloud in clouds.items():
            # infrared hollow: also where points are too small to see their shape
            face = colour if modality == VISIBLE else "none"
            axes.scatter(
                *cloud.T,
                s=9,
                marker=SHAPES[modality],
                facecolor=face,
                edgecolor=colour,
                linewidth=0.6,
                alpha=0.85,
            )
        medians = np.array([np.median(one, axis=0) for one in clouds.values() if len(one)])
        axes.plot(*medians.T, color=colour, linewidth=0.8, alpha=0.6, zorder=0)
        axes.annotate(
            str(pid),
            medians[0],
            (4, 3),
            textcoords="offset points",
            fontsize=5.5,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
        )
