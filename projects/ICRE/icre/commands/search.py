"""Galleries of a model's features: tools/search.py index, calibrate and query."""

import argparse
from pathlib import Path

from tabulate import tabulate

import icre.engine  # noqa: F401
from icre.data.image import find_faults, verify_images
from icre.data.loader import load_dataset
from icre.evaluation import records
from icre.evaluation.openset import FARS
from icre.evaluation.rerank_options import ALGORITHMS
from icre.gallery import shards
from icre.gallery import store as galleries
from icre.gallery.answers import DEFAULT_FAR, answer, as_json, table
from icre.gallery.calibration import SAME_NAME, Calibration, calibrate, known_people
from icre.gallery.images import ImageTable, collect, contradictions
from icre.gallery.index import KINDS, require_enough
from icre.gallery.page import save_page
from icre.inference.embedder import Embedder, read_config
from icre.inference.run import open_model
from icre.modality import NAMES
from icre.utils import cli
from icre.utils.errors import UserError

_SOURCES = (
    "images, folders of images, lists (a path per line) or .csv tables (path, modality, "
    "camera, identity)"
)


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(
        description="Find people in a gallery of images: index it once, then query it."
    )
    commands = result.add_subparsers(dest="command", required=True)
    _index_arguments(commands.add_parser("index", help="make a gallery; goes on after a stop"))
    _calibrate_arguments(
        commands.add_parser(
            "calibrate",
            help="learn when a match is a match, from people who are not in the gallery",
        )
    )
    _query_arguments(commands.add_parser("query", help="look for the people of some images"))
    return result


def _index_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("sources", nargs="+", metavar="DIR_OR_LIST", help=_SOURCES)
    sub.add_argument(
        "--weights",
        required=True,
        metavar="RUN_OR_FILE",
        help="a finished run's folder, or a checkpoint",
    )
    sub.add_argument(
        "--config-file", metavar="FILE", help="default: the config that the checkpoint carries"
    )
    sub.add_argument("--out", required=True, type=Path, metavar="GALLERY")
    _modality_argument(sub)
    sub.add_argument(
        "--index",
        choices=tuple(KINDS),
        default="flat",
        help="; ".join(f"{name}: {kind.text}" for name, kind in KINDS.items()),
    )
    sub.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="leave out images that cannot be read, and say which",
    )
    sub.add_argument(
        "--shard",
        type=int,
        default=shards.SIZE,
        metavar="N",
        help=f"images between two saves ({shards.SIZE})",
    )
    _device_argument(sub)


def _calibrate_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("gallery", metavar="GALLERY")
    sub.add_argument(
        "--people",
        nargs="+",
        metavar="DIR_OR_LIST",
        help=f"{_SOURCES} of people who are not in the gallery and were not trained on, by "
        "identity and camera; default: the config's held-out training identities "
        "(DATASETS.VALIDATION)",
    )
    sub.add_argument("--root", metavar="DIR", help="DATASETS.ROOT, where it is not the config's")
    _modality_argument(sub)
    _weights_argument(sub)
    _device_argument(sub)


def _query_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("gallery", metavar="GALLERY")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help=_SOURCES)
    sub.add_argument("--top", type=int, default=10, metavar="N", help="matches to show (10)")
    _modality_argument(sub)
    sub.add_argument(
        "--far",
        type=float,
        metavar="SHARE",
        help="of searches for people who are not here, the share that may be answered with "
        f"somebody ({DEFAULT_FAR}; needs a calibrated gallery)",
    )
    sub.add_argument(
        "--rerank", choices=tuple(ALGORITHMS), help="re-rank each query's nearest 1000 images"
    )
    sub.add_argument("--json", metavar="OUT", help="write the answers")
    sub.add_argument("--html", metavar="OUT", help="write a page with pictures")
    _weights_argument(sub)
    _device_argument(sub)


def _modality_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--modality",
        choices=NAMES,
        help="of the images; default: what a path in a published layout says",
    )


def _weights_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--weights", metavar="FILE", help="the gallery's checkpoint, where it was moved"
    )


def _device_argument(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", default="auto", help="auto, cpu or cuda:N")


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: _COMMANDS[args.command](args))


def _collect(sources: list[str], modality: str | None) -> ImageTable:
    images = collect(sources, modality)
    against = contradictions(images)
    if against:
        print(
            f"note: {len(against)} images are taken as --modality or a table says, though their "
            f"paths say otherwise, such as {against[0]}"
        )
    return images


def _index(args: argparse.Namespace) -> None:
    if args.out.exists():
        raise UserError(f"--out {args.out} exists: choose another folder or remove it")
    if args.shard < 1:
        raise UserError(f"--shard {args.shard}: at least 1 image")
    images = _collect(args.sources, args.modality)
    require_enough(args.index, len(images))
    embedder = open_model(args.weights, "MODEL.DEVICE", args.device, config_file=args.config_file)
    folder = galleries.staging_folder(args.out) / "shards"
    planned = shards.plan(folder, images, embedder.key, args.shard)
    pending = [shard for shard in planned if shard.load() is None]
    if len(pending) < len(planned):
        print(f"going on: {len(planned) - len(pending)} of {len(planned)} shards are there")
    faults = _faults(images, pending, args.skip_corrupt)
    embedder.fill(images, pending, faults)
    faults = {row: fault for shard in planned for row, fault in shard.load()[1]}
    if faults and not args.skip_corrupt:
        raise UserError(
            f"{len(faults)} images were skipped before, the first is "
            f"{images.paths[min(faults)]}: replace them or give --skip-corrupt again"
        )
    kept = images.take([row for row in range(len(images)) if row not in faults])
    require_enough(args.index, len(kept))
    skipped = [(images.paths[row], fault) for row, fault in faults.items()]
    galleries.write(args.out, kept, shards.blocks(planned), embedder.stamp, args.index, skipped)
    for path, fault in skipped:
        print(f"skipped {path}: {fault}")
    people = len(set(kept.identities) - {""})
    print(f"{args.out}: {len(kept)} images, {people or 'no'} known people, index {args.index}")


def _faults(images: ImageTable, pending: list[shards.Shard], skip: bool) -> dict[int, str]:
    """Row -> fault of the pending images that cannot be read; not skipping, the first ends it."""
    rows = {images.paths[row]: row for shard in pending for row in shard.rows}
    if not skip:
        try:
            verify_images(list(rows))
        except UserError as error:
            raise UserError(f"{error}; or leave out what is broken with --skip-corrupt") from None
        return {}
    return {rows[path]: reason for path, reason in find_faults(rows)}


def _open(args: argparse.Namespace) -> tuple[galleries.Gallery, Embedder]:
    """The gallery and its model, which must be the one that made it."""
    gallery = galleries.open_gallery(args.gallery)
    weights = args.weights or gallery.manifest["model"]["weights"]
    if not Path(weights).is_file():
        raise UserError(f"the gallery's model {weights} is missing: name it with --weights")
    gallery.check_model(galleries.sha256_of(weights), weights)
    options = ["MODEL.DEVICE", args.device]
    if getattr(args, "root", None):
        options += ["DATASETS.ROOT", args.root]
    cfg = read_config(gallery.folder / galleries.CONFIG, *options)
    return gallery, Embedder(cfg, weights)


def _calibrate(args: argparse.Namespace) -> None:
    gallery, embedder = _open(args)
    if args.people:
        people, source, held_out = _collect(args.people, args.modality), args.people[0], True
    else:
        name = embedder.cfg.DATASETS.NAMES[0]
        data = load_dataset(embedder.cfg, name, validation=True)
        people = collect([item[0] for item in data.query + data.gallery])
        source, held_out = f"{name}'s held-out identities", not embedder.saw_validation
    known = known_people(gallery, people)
    if 0 < len(known) < len(set(people.identities)):
        print(
            f"note: {len(known)} people who are in the gallery are left out, such as {known[0]} "
            f"({SAME_NAME})"
        )
    verify_images(people.paths)
    found = calibrate(gallery, people, embedder.features(people), source, held_out)
    galleries.save_calibrations(gallery, found)
    print(_calibration_table(found))
    if not held_out:
        print(
            "warning: the model was trained on these people (DATASETS.VALIDATION was off, or the "
            "checkpoint does not say): strangers score differently, and the true rate may be "
            "another than stated; better calibrate with --people whom it does not know"
        )


def _calibration_table(calibrations: dict[str, Calibration]) -> str:
    rows = []
    for modality, one in calibrations.items():
        for far in FARS:
            try:
                threshold = one.threshold(far)
            except UserError:
                continue
            tar = one.tar(threshold)
            rows.append(
                {
                    "query": modality,
                    "searches": len(one.impostor),
                    "people": one.people,
                    "FAR per search": f"{100 * far:g} %",
                    "threshold": f"{threshold:.3f}",
                    "found if here": "-" if tar is None else f"{100 * tar:.1f} %",
                }
            )
    return tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)


def _query(args: argparse.Namespace) -> None:
    images = _collect(args.images, args.modality)
    verify_images(images.paths, progress=False)
    gallery, embedder = _open(args)
    answers = answer(gallery, images, embedder.features(images), args.top, args.far, args.rerank)
    print("\n\n".join(table(one) for one in answers))
    if args.json:
        records.save(as_json(answers), args.json)
    if args.html:
        title = f"{gallery.folder.resolve().name}: {len(gallery.images)} images"
        save_page(answers, args.html, title)


_COMMANDS = {"index": _index, "calibrate": _calibrate, "query": _query}
