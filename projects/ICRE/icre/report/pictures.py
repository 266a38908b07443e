"""The report's pictures: (runs, options) -> HTML."""

from collections.abc import Sequence

from icre.evaluation.ranking_lists import ranking_lists
from icre.plots.curves import cmc, draw_cmc, draw_training
from icre.plots.distances import draw_distances, pair_distances
from icre.plots.embedding import choose_images, draw_embedding, embed
from icre.plots.ranking import describe, draw_rankings
from icre.plots.style import PAGE
from icre.report import page
from icre.report.figures.people import choose_people, draw_attention
from icre.report.figures.sources import checkpoint_of
from icre.report.runs import Options, Run, gather
from icre.utils.errors import UserError

PICKED = {"worst": 6, "even": 4}  # lists of a run, by way to choose them
TOP = 10  # images of a list


def curves(runs: Sequence[Run], options: Options) -> str:
    """CMC, and what the runs logged while they trained."""
    parts = [page.heading("Found by rank k (CMC)")]
    try:
        found = {
            run.name: cmc(run.features, options.protocol, options.draw, run.permutation)
            for run in _having(runs, "features")
        }
        if found:
            parts.append(page.chart(draw_cmc(found, 5), "Share of the queries found by rank k"))
    except UserError as error:
        parts.append(page.note(str(error)))
    parts.append(gather(runs, "features")[1])
    parts.append(page.heading("Training"))
    scalars, missing = gather(runs, "scalars")
    if scalars:
        figure = draw_training(scalars, width=PAGE)
        parts.append(page.chart(figure, "Losses, learning rate, accuracy and scores"))
    return "".join(parts) + missing


def _having(runs: Sequence[Run], part: str) -> list[Run]:
    found = gather(runs, part)[0]
    return [run for run in runs if run.name in found]


def rankings(runs: Sequence[Run], options: Options) -> str:
    """Queries of each run, the worst first, and what was found for them."""
    parts = [
        page.text(
            f"First the {PICKED['worst']} queries with the lowest average precision (AP), one of a "
            f"person; then {PICKED['even']} at even distances over the test set, not chosen by their "
            "result. A solid green frame and a tick are the same person, a dashed vermilion one and a "
            "cross another; c is the camera."
        )
    ]
    for run in runs:
        parts.append(page.heading(run.name) if len(runs) > 1 else "")
        try:
            parts += [_lists(run, options, pick) for pick in PICKED]
        except UserError as error:
            parts.append(page.note(str(error)))
    return "".join(parts)


def _lists(run: Run, options: Options, pick: str) -> str:
    one, title = options.setting(run), {"worst": "the worst", "even": "at even distances"}[pick]
    lists = ranking_lists(
        run.features, one.name, one.draw, run.permutation, PICKED[pick], TOP, pick
    )
    title = f"{run.name}, {title}: {describe(one.name, one.draw)}"
    figure = draw_rankings(run.features, lists, run.data.folder, title)
    return page.photos(figure, f"Queries and the first {TOP} images found for each. {title}")


def distances(runs: Sequence[Run], options: Options) -> str:
    """Histograms of distances within and between identities."""
    found, missing = gather(runs, "features")
    if not found:
        return missing
    pairs = {name: pair_distances(data) for name, data in found.items()}
    figure = draw_distances(pairs, PAGE if len(pairs) > 1 else 5)
    words = page.text(
        "All pairs of a visible and an infrared test image; dashed lines are the means. "
        "The further apart they are, the easier the match."
    )
    return words + page.chart(figure, "Distances within and between identities") + missing


def embedding(runs: Sequence[Run], options: Options) -> str:
    """t-SNE of some people."""
    found, missing = gather(runs, "features")
    if not found:
        return missing
    people = min(8, min(len(set(data.pids)) for data in found.values()))
    chosen = {name: choose_images(data, people, seed=options.seed) for name, data in found.items()}
    first = next(iter(chosen.values()))
    if any(data.paths.tolist() != first.paths.tolist() for data in chosen.values()):
        raise UserError("the runs hold features of different images")
    places = {name: embed(data.features, seed=options.seed) for name, data in chosen.items()}
    figure = draw_embedding(places, first.pids, first.modalities, PAGE if len(places) > 1 else 4)
    words = page.text(
        f"t-SNE of {people} people: a colour is an identity, a full circle a visible and a hollow "
        "triangle an infrared image; a line joins an identity's modalities. Neighbourhoods mean "
        "something here, distances do not."
    )
    return words + page.chart(figure, "Some people's features on a plane") + missing


def attention(runs: Sequence[Run], options: Options) -> str:
    """What the models look at."""
    weights, missing = {}, []
    for run in runs:
        try:
            weights[run.name] = checkpoint_of(run.folder)
        except UserError as error:
            missing.append(page.note(str(error)))
    configs = {run.name: run.cfg for run in runs if run.name in weights}
    if not configs:
        return "".join(missing)
    figure = draw_attention(
        configs,
        weights,
        lambda cfg: choose_people(cfg, None, 2, 3, options.seed),
        ("layercam", "masks", "cross"),
        width=4,
    )
    words = page.text(
        "LayerCAM: which parts of the map that the heads pool speak for the match with the same "
        "person's images of the other modality; each map from its own minimum to its maximum. "
        "Masks are MPFR's, 0 to 1; cross-attention is SDCE's, by position of the clue map."
    )
    return words + page.photos(figure, "What the models look at") + "".join(missing)
