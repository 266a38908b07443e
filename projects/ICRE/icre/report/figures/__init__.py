"""The figures of a paper from runs and feature files: the command behind tools/visualize.py."""

import argparse
from pathlib import Path

from icre.datasets.protocol import OFFICIAL, PROTOCOLS, SEEDED
from icre.evaluation.ranking_lists import PICKS
from icre.plots.embedding import METHODS
from icre.plots.style import COLUMN, PAGE, check_format, save_figure
from icre.report.figures import commands
from icre.report.figures.people import SHOWN
from icre.utils import cli

_FEATURES = "an .npz of features, or a run's folder"


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Draw figures of models. The suffix of --out decides the format: .png, .jpg, "
        ".pdf or .svg; the same input gives the same bytes."
    )
    subs = result.add_subparsers(dest="command", required=True, metavar="FIGURE")
    _ranking(subs)
    _distances(subs)
    _embedding(subs)
    _attention(subs)
    _curves(subs)
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse, draw and save; returns the exit status, and bad input ends in one line."""
    args = parser().parse_args(argv)
    return cli.run(lambda: _run(args))


def _run(args: argparse.Namespace) -> None:
    check_format(args.out)
    save_figure(args.draw_figure(args), args.out, args.dpi)
    print(f"written: {args.out}")


def _command(subs, name: str, draw, text: str, width: str) -> argparse.ArgumentParser:
    sub = subs.add_parser(name, help=text, description=text)
    sub.set_defaults(draw_figure=draw)
    sub.add_argument("--out", required=True, type=Path, metavar="FILE.{png,jpg,pdf,svg}")
    sub.add_argument("--width", type=float, metavar="INCHES", help=f"default: {width}")
    sub.add_argument(
        "--dpi", type=int, default=300, help="of a PNG or JPEG, and of images in a PDF (300)"
    )
    return sub


def _setting(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--protocol",
        metavar="NAME",
        help=f"default: the data set's first; one of {', '.join(PROTOCOLS)}",
    )
    sub.add_argument(
        "--draw",
        choices=(OFFICIAL, SEEDED),
        help="default: official where rand_perm_cam.mat is there, else seeded",
    )
    sub.add_argument(
        "--perm",
        metavar="rand_perm_cam.mat",
        help="default: that of the run's data set, or of --root",
    )
    sub.add_argument(
        "--root",
        type=Path,
        metavar="DATASET",
        help="the data set's folder, such as datasets/SYSU-MM01; default: the run's",
    )


def _models(sub: argparse.ArgumentParser, what: str, metavar: str) -> None:
    sub.add_argument("models", nargs="+", metavar=metavar, help=what)
    sub.add_argument("--names", nargs="+", metavar="NAME", help="of the models, for the figure")


def _ranking(subs) -> None:
    sub = _command(
        subs,
        "ranking",
        commands.ranking,
        "Queries and the first images found for each, right or wrong.",
        f"{PAGE}, a page",
    )
    sub.add_argument("features", metavar="FEATURES_OR_RUN", help=_FEATURES)
    _setting(sub)
    sub.add_argument(
        "--pick",
        nargs="+",
        default=["even"],
        metavar="WHICH",
        help=f"{', '.join(PICKS)} (worst: lowest average precision, one query of a "
        "person), or identities; default: even, at even distances over the test set",
    )
    sub.add_argument("--queries", type=int, default=6, metavar="N", help="rows (6)")
    sub.add_argument("--top", type=int, default=10, metavar="N", help="places (10)")
    sub.add_argument("--seed", type=int, default=0, help="of --pick random (0)")
    sub.add_argument("--no-title", action="store_true", help="leave out the line above")


def _distances(subs) -> None:
    sub = _command(
        subs,
        "distances",
        commands.distances,
        "Histograms of cosine distances between visible and infrared images.",
        f"{COLUMN} for one or two models, else {PAGE}",
    )
    _models(sub, _FEATURES, "FEATURES_OR_RUN")


def _embedding(subs) -> None:
    sub = _command(
        subs,
        "embedding",
        commands.embedding,
        "Features on a plane: colour = identity, shape = modality; the same images for all models.",
        f"{COLUMN} for one or two models, else {PAGE}",
    )
    _models(sub, _FEATURES, "FEATURES_OR_RUN")
    sub.add_argument("--method", default="tsne", metavar="|".join(METHODS), help="(tsne)")
    sub.add_argument("--identities", type=int, default=8, metavar="N", help="drawn at random (8)")
    sub.add_argument("--pick", type=int, nargs="+", metavar="ID", help="these instead")
    sub.add_argument(
        "--images",
        type=int,
        default=20,
        metavar="N",
        help="of a person in a modality, at most (20)",
    )
    sub.add_argument("--seed", type=int, default=0, help="of the choice and of t-SNE (0)")


def _attention(subs) -> None:
    sub = _command(
        subs,
        "attention",
        commands.attention,
        "Grad-CAM, MPFR's masks and SDCE's cross-attention over images of some people.",
        f"{PAGE}, a page",
    )
    _models(sub, "folders of runs, with config.yaml and a checkpoint", "RUN")
    sub.add_argument("--root", metavar="DIR", help="DATASETS.ROOT, where it is not the run's")
    sub.add_argument(
        "--show",
        nargs="+",
        default=["gradcam"],
        metavar="WHAT",
        help=f"{', '.join(SHOWN)} (gradcam); what a model lacks is left out",
    )
    sub.add_argument(
        "--layer",
        default="final",
        metavar="MODULE",
        help="of the first three, such as backbone.stages.layer3; default: final, the map that "
        "the heads pool",
    )
    sub.add_argument("--pick", type=int, nargs="+", metavar="ID", help="people; default: random")
    sub.add_argument("--people", type=int, default=2, metavar="N", help="drawn at random (2)")
    sub.add_argument(
        "--images", type=int, default=4, metavar="N", help="of a person in a modality, at most (4)"
    )
    sub.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    sub.add_argument("--device", default="auto", help="auto, cpu or cuda:N")


def _curves(subs) -> None:
    sub = _command(
        subs,
        "curves",
        commands.curves,
        "cmc: of features; training: losses, learning rate and scores of runs; sweep: of a "
        "folder that tools/ablate.py wrote.",
        f"{COLUMN}, a column",
    )
    sub.add_argument("kind", choices=tuple(commands.CURVES))
    _models(sub, f"cmc: {_FEATURES}; training: runs; sweep: one folder with results.json", "SOURCE")
    _setting(sub)
    sub.add_argument("--ranks", type=int, default=20, metavar="K", help="of cmc (20)")
