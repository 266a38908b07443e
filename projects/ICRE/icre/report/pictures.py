"""The report's pictures."""

from collections.abc import Sequence

from icre.evaluation.ranking_lists import ranking_lists
from icre.inference.run import Run
from icre.plots.curves import cmc, draw_cmc, draw_training
from icre.plots.distances import draw_distances, pair_distances
from icre.plots.embedding import choose_images, draw_embedding, embed
from icre.plots.ranking import describe, draw_rankings
from icre.plots.style import PAGE
from icre.report.attention import choose_people, draw_attention
from icre.report.inputs import Options, gather
from icre.report.page import Block, Heading, Note, Picture, Text, chart, photos
from icre.utils.errors import UserError

PICKED = {"worst": 6, "even": 4}  # way to choose queries -> how many
TOP = 10  # images of a list


def curves(runs: Sequence[Run], options: Options) -> list[Block]:
    """CMC, and what the runs logged during training."""
    blocks: list[Block] = [Heading("Found by rank k (CMC)")]
    found, missing = gather(runs, "features")
    try:
        curve = {
            run.name: cmc(found[run.name], options.protocol, options.draw, run.permutation_file)
            for run in runs
            if run.name in found
        }
        if curve:
            blocks.append(chart(draw_cmc(curve, 5), "Share of the queries found by rank k"))
    except UserError as error:
        blocks.append(Note(str(error)))
    blocks += [*missing, Heading("Training")]
    scalars, missing = gather(runs, "scalars")
    if scalars:
        figure = draw_training(scalars, width=PAGE)
        blocks.append(chart(figure, "Losses, learning rate, accuracy and scores"))
    return [*blocks, *missing]


def rankings(runs: Sequence[Run], options: Options) -> list[Block]:
    """Queries of each run, the worst first, and what was found for them."""
    blocks: list[Block] = [
        Text(
            f"First the {PICKED['worst']} queries with the lowest average precision (AP), one of a "
            f"person; then {PICKED['even']} at even distances over the test set, not chosen by "
            "their result. A solid green frame and a tick are the same person, a dashed vermilion "
            "one and a cross another; c is the camera."
        )
    ]
    for run in runs:
        blocks += [Heading(run.name)] if len(runs) > 1 else []
        try:
            blocks += [_lists(run, options, pick) for pick in PICKED]
        except UserError as error:
            blocks.append(Note(str(error)))
    return blocks


def _lists(run: Run, options: Options, pick: str) -> Picture:
    trials = options.trials(run)
    chosen_by = {"worst": "the worst", "even": "at even distances"}[pick]
    title = f"{run.name}, {chosen_by}: {describe(trials.name, trials.draw)}"
    lists = ranking_lists(
        run.features, trials.name, trials.draw, run.permutation_file, PICKED[pick], TOP, pick
    )
    figure = draw_rankings(run.features, lists, run.dataset.folder, title, known=run.images)
    return photos(figure, f"Queries and the first {TOP} images found for each. {title}")


def distances(runs: Sequence[Run], options: Options) -> list[Block]:
    """Histograms of distances within and between identities."""
    found, missing = gather(runs, "features")
    if not found:
        return missing
    pairs = {name: pair_distances(data) for name, data in found.items()}
    figure = draw_distances(pairs, PAGE if len(pairs) > 1 else 5)
    words = (
        "All pairs of a visible and an infrared test image; dashed lines are the means. "
        "The further apart they are, the easier the match."
    )
    return [Text(words), chart(figure, "Distances within and between identities"), *missing]


def embedding(runs: Sequence[Run], options: Options) -> list[Block]:
    """t-SNE of the images of some people."""
    found, missing = gather(runs, "features")
    if not found:
        return missing
    people = min(8, min(len(set(data.pids)) for data in found.values()))
    chosen = {name: choose_images(data, people, seed=options.seed) for name, data in found.items()}
    first = next(iter(chosen.values()))
    if any(data.paths.tolist() != first.paths.tolist() for data in chosen.values()):
        raise UserError("the runs hold features of different images")
    points = {name: embed(data.features, seed=options.seed) for name, data in chosen.items()}
    figure = draw_embedding(points, first.pids, first.modalities, PAGE if len(points) > 1 else 4)
    words = (
        f"t-SNE of {people} people: a colour is an identity, a full circle a visible and a hollow "
        "triangle an infrared image; a line joins an identity's modalities. Neighbourhoods mean "
        "something here, distances do not."
    )
    return [Text(words), chart(figure, "Some people's features on a plane"), *missing]


def attention(runs: Sequence[Run], options: Options) -> list[Block]:
    """Attention maps of the models over images of two people."""
    found, missing = gather(runs, "weights")
    if not found:
        return missing
    trained = [run for run in runs if run.name in found]
    people = choose_people(trained[0].cfg, None, 2, 3, options.seed)
    models = ((run.name, run.model()) for run in trained)
    figure = draw_attention(models, people, ("layercam", "masks", "cross"), width=4)
    words = (
        "LayerCAM: which parts of the map that the heads pool support the match with the same "
        "person's images of the other modality; each map from its own minimum to its maximum. "
        "Masks are MPFR's, 0 to 1; cross-attention is SDCE's, by position of the clue map."
    )
    return [Text(words), photos(figure, "What the models look at"), *missing]
