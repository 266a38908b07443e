"""The command behind tools/visualize.py."""

import argparse
from pathlib import Path

from icre.commands import arguments
from icre.utils import cli
from icre.utils.files import check_output

_FEATURES = "an .npz of features, or a run's folder"
_COLUMN_OR_PAGE = "3.3 for one or two models, else 6.9"


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Draw figures of models. The suffix of --out decides the format: .png, .jpg, "
        ".pdf or .svg; the same input gives the same bytes."
    )
    figures = result.add_subparsers(dest="figure", required=True, metavar="FIGURE")
    _ranking(figures)
    _distances(figures)
    _embedding(figures)
    _attention(figures)
    _curves(figures)
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse, draw and save; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Draw and save the figure; the options are the arguments of its `icre.report.figures`."""
    from icre.plots.style import check_format, save_figure
    from icre.report import figures

    options = dict(vars(args))
    name, out, dpi = (options.pop(key) for key in ("figure", "out", "dpi"))
    check_format(out)
    check_output(out)
    save_figure(getattr(figures, name)(**options), out, dpi)
    cli.show(f"written: {out}")


def _add(figures, name: str, text: str, width: str) -> argparse.ArgumentParser:
    sub = figures.add_parser(name, help=text, description=text)
    sub.add_argument("--out", required=True, type=Path, metavar="FILE.{png,jpg,pdf,svg}")
    sub.add_argument("--width", type=float, metavar="INCHES", help=f"default: {width}")
    sub.add_argument(
        "--dpi", type=int, default=300, help="of a PNG or JPEG, and of images in a PDF (300)"
    )
    return sub


def _protocol_arguments(sub: argparse.ArgumentParser) -> None:
    arguments.add_protocol(sub)
    sub.add_argument(
        "--root",
        type=Path,
        metavar="DATASET",
        help="the data set's folder, such as datasets/SYSU-MM01, with its rand_perm_cam.mat; "
        "default: the run's",
    )


def _model_arguments(sub: argparse.ArgumentParser, what: str, metavar: str) -> None:
    sub.add_argument("models", nargs="+", metavar=metavar, help=what)
    sub.add_argument("--names", nargs="+", metavar="NAME", help="of the models, for the figure")


def _ranking(figures) -> None:
    text = "Queries and the first images found for each, right or wrong."
    sub = _add(figures, "ranking", text, "6.9, a page")
    sub.add_argument("features", metavar="FEATURES_OR_RUN", help=_FEATURES)
    _protocol_arguments(sub)
    sub.add_argument(
        "--pick",
        nargs="+",
        default=["even"],
        metavar="WHICH",
        help="even, random, worst (lowest average precision, one query of a person), or "
        "identities; default: even, at even distances over the test set",
    )
    sub.add_argument("--queries", type=int, default=6, metavar="N", help="rows (6)")
    sub.add_argument("--top", type=int, default=10, metavar="N", help="images per query (10)")
    sub.add_argument("--seed", type=int, default=0, help="of --pick random (0)")
    sub.add_argument("--no-title", action="store_true", help="leave out the line above")


def _distances(figures) -> None:
    text = "Histograms of cosine distances between visible and infrared images."
    sub = _add(figures, "distances", text, _COLUMN_OR_PAGE)
    _model_arguments(sub, _FEATURES, "FEATURES_OR_RUN")


def _embedding(figures) -> None:
    text = "Features on a plane: colour = identity, shape = modality; the same images for all."
    sub = _add(figures, "embedding", text, _COLUMN_OR_PAGE)
    _model_arguments(sub, _FEATURES, "FEATURES_OR_RUN")
    sub.add_argument("--method", default="tsne", metavar="tsne|pca", help="(tsne)")
    sub.add_argument("--identities", type=int, default=8, metavar="N", help="drawn at random (8)")
    sub.add_argument("--pick", type=int, nargs="+", metavar="ID", help="these instead")
    sub.add_argument(
        "--images", type=int, default=20, metavar="N", help="per person and modality, at most (20)"
    )
    sub.add_argument("--seed", type=int, default=0, help="of the choice and of t-SNE (0)")


def _attention(figures) -> None:
    text = "Grad-CAM, MPFR's masks and SDCE's cross-attention over images of some people."
    sub = _add(figures, "attention", text, "6.9, a page")
    _model_arguments(sub, "finished runs' folders, or checkpoints", "RUN_OR_CHECKPOINT")
    sub.add_argument("--root", metavar="DIR", help="DATASETS.ROOT, if it is not the run's")
    sub.add_argument(
        "--show",
        nargs="+",
        default=["gradcam"],
        metavar="WHAT",
        help="gradcam, hirescam, layercam, masks, cross (gradcam); what a model lacks is left out",
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
        "--images", type=int, default=4, metavar="N", help="per person and modality, at most (4)"
    )
    sub.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    arguments.add_trust(sub)
    arguments.add_device(sub)


def _curves(figures) -> None:
    text = (
        "cmc: of features; training: losses, learning rate and scores of runs; sweep: of a "
        "folder that tools/ablate.py wrote."
    )
    sub = _add(figures, "curves", text, "3.3, a column")
    sub.add_argument("kind", choices=("cmc", "training", "sweep"))
    _model_arguments(sub, f"cmc: {_FEATURES}; training: runs; sweep: one folder", "SOURCE")
    _protocol_arguments(sub)
    sub.add_argument("--ranks", type=int, default=20, metavar="K", help="of cmc (20)")
