"""Find people in a gallery of images of one person each: index it, query it, keep it up to date."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from icre.commands import arguments, search_changes, search_serve
from icre.commands import search_images as shared
from icre.utils import cli
from icre.utils.errors import UserError
from icre.utils.files import check_output

if TYPE_CHECKING:  # imported where they are used, for a quick --help
    from icre.gallery.calibration import Calibration
    from icre.gallery.table import ImageTable


def parser() -> argparse.ArgumentParser:
    """Command line."""
    result = argparse.ArgumentParser(description=__doc__)
    commands = result.add_subparsers(dest="command", required=True)
    for name, (text, add_arguments, run) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        add_arguments(sub)
        arguments.add_trust(sub)
        arguments.add_device(sub)
    return result


def main(argv: list[str] | None = None) -> int:
    """Parse and run; returns the exit status."""
    args = parser().parse_args(argv)
    return cli.run(lambda: args.run(args))


def _index_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("sources", nargs="+", metavar="DIR_OR_LIST", help=shared.SOURCES)
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
    sub.add_argument(
        "--index",
        choices=("flat", "ivf", "hnsw", "ivfpq", "diskann"),
        help="flat: exact, for up to some hundred thousand images; ivf: cells, exact inside, quick "
        "to build; hnsw: a graph of neighbours, the fastest search; ivfpq: compressed in cells, "
        "the least memory; diskann: a graph on disks, in Milvus only (flat; with --store hnsw)",
    )
    shared.add_extraction(sub)
    shared.add_images(sub)
    shared.add_store(sub)


def _calibrate_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("gallery", metavar="GALLERY")
    sub.add_argument(
        "--people",
        nargs="+",
        metavar="DIR_OR_LIST",
        help=f"{shared.SOURCES}; of people who are not in the gallery and were not trained on, by "
        "identity and camera; default: the config's held-out training identities "
        "(DATASETS.VALIDATION)",
    )
    sub.add_argument("--root", metavar="DIR", help="DATASETS.ROOT, if it is not the config's")
    shared.add_images(sub)
    shared.add_weights(sub)
    shared.add_store(sub)


def _query_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("gallery", metavar="GALLERY")
    sub.add_argument("images", nargs="+", metavar="IMAGE", help=shared.SOURCES)
    sub.add_argument("--top", type=int, default=10, metavar="N", help="matches to show (10)")
    sub.add_argument(
        "--far",
        type=float,
        metavar="SHARE",
        help="of searches for people who are not in the gallery, the share that may be answered "
        "with somebody (0.01; needs a calibrated gallery)",
    )
    sub.add_argument(
        "--rerank",
        choices=("fastreid", "original"),
        help="re-rank each query's nearest 1000 images",
    )
    sub.add_argument("--json", metavar="OUT", help="write the answers")
    sub.add_argument("--html", metavar="OUT", help="write a page with pictures")
    shared.add_images(sub)
    shared.add_filter(sub, "searched are")
    shared.add_weights(sub)
    shared.add_store(sub)


def _index(args: argparse.Namespace) -> None:
    if args.store is None:
        _index_folder(args)
    else:
        _index_store(args)


def _index_folder(args: argparse.Namespace) -> None:
    from icre.inference.galleries import GalleryBuilder, check_request
    from icre.inference.run import open_model

    shared.open_store(args, args.out)
    kind = args.index or "flat"
    if kind == "diskann":
        raise UserError("--index diskann is one of Milvus: give --store, or choose another")
    images = shared.collect_images(args.sources, args)
    check_request(args.out, images, kind, args.shard)
    with shared.features_by(args, args.out.parent) as features:
        extractor = open_model(
            args.weights, "MODEL.DEVICE", shared.device_here(args), config_file=args.config_file
        )
        builder = GalleryBuilder(args.out, images, extractor, kind, args.shard, features)
        total, pending = len(builder.staged.shards), len(builder.staged.pending)
        if pending < total:
            print(f"going on: {total - pending} of {total} shards are there")
        kept, skipped = builder.build(args.skip_corrupt)
    shared.show_skipped(skipped)
    _show_indexed(str(args.out), kept, kind)


def _index_store(args: argparse.Namespace) -> None:
    from icre.inference.galleries import check_shard_size
    from icre.inference.run import open_model
    from icre.inference.stores import write_images

    check_shard_size(args.shard)
    store, kind = shared.open_new(args, args.out)
    images = shared.collect_images(args.sources, args)
    with shared.staged_for(args, store, images) as staged:
        extractor = open_model(
            args.weights, "MODEL.DEVICE", shared.device_here(args), config_file=args.config_file
        )
        kept, skipped, there = write_images(
            store, extractor, images, args.shard, args.skip_corrupt, kind, staged(extractor)
        )
    if there:
        print(f"went on: {there} of {len(images)} images were there")
    shared.show_skipped(skipped)
    _show_indexed(store.name, kept, kind)


def _show_indexed(name: str, images: "ImageTable", kind: str) -> None:
    people = len(set(images.identities) - {""})
    cli.show(f"{name}: {len(images)} images, {people or 'no'} known people, index {kind}")


def _calibrate(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from icre.gallery.answers import not_comparable
    from icre.gallery.calibration import SAME_PERSON, shared_people
    from icre.inference.galleries import calibrate_gallery, held_out_people, open_with_model

    store = shared.open_store(args, args.gallery)
    gallery, extractor = open_with_model(store, args.weights, args.device, args.root)
    if args.people:
        people, source, held_out = shared.collect_images(args.people, args), args.people[0], True
    else:
        people, source = held_out_people(extractor)
        held_out = not extractor.saw_validation
    known = shared_people(gallery.images, people)
    if 0 < len(known) < len(set(people.identities)):
        cli.show(
            f"note: {len(known)} people who are in the gallery are left out, such as {known[0]} "
            f"({SAME_PERSON})"
        )
    found = calibrate_gallery(store, gallery, extractor, people, source, held_out)
    print(_calibration_table(found))
    if any(one.lines for one in found.values()):
        print("the gallery holds both modalities: thresholds are of the comparable similarity")
    elif note := not_comparable(replace(gallery, calibrations=found), people):
        print(note)
    if not held_out:
        print(
            "warning: the model was trained on these people (DATASETS.VALIDATION was off, or the "
            "checkpoint does not say): strangers score differently, and the true rate may be "
            "another than stated; better calibrate with --people whom it does not know"
        )


def _calibration_table(calibrations: dict[str, "Calibration"]) -> str:
    from tabulate import tabulate

    from icre.evaluation.openset import FARS

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
    from icre.evaluation import records
    from icre.gallery.answers import answer, as_json, not_comparable, text
    from icre.gallery.page import save_page
    from icre.inference.galleries import features_of, open_with_model
    from icre.utils.image import verify_images

    check_output(args.json, args.html)
    store = shared.open_store(args, args.gallery)
    store.open()  # what is wrong with it is told before images are read
    conditions = shared.read_filter(args)
    images = shared.collect_images(args.images, args)
    verify_images(images.sources(), progress=False)
    gallery, extractor = open_with_model(store, args.weights, args.device)
    features = features_of(extractor, images)
    note = not_comparable(gallery, images)
    if note:
        cli.show(note)
    answers = answer(gallery, images, features, args.top, args.far, args.rerank, conditions)
    cli.show("\n\n".join(text(one) for one in answers))
    search_changes.show_change(gallery)
    if args.json:
        records.save(as_json(answers), args.json)
    if args.html:
        title = f"{store.title}: {len(gallery.images)} images"
        save_page(answers, args.html, title)
    store.remember_answers(gallery.version, args.json, args.html)
    if (args.json or args.html) and store.open().version != gallery.version:
        print("note: the gallery was changed meanwhile; the answers are those of before")


# name -> (description, function that adds its arguments, function that runs it)
COMMANDS = {
    "index": ("make a gallery; continues after an interruption", _index_arguments, _index),
    "calibrate": (
        "learn when a match is a match, from people who are not in the gallery",
        _calibrate_arguments,
        _calibrate,
    ),
    "query": ("search for the people of some images", _query_arguments, _query),
    **search_changes.COMMANDS,
    **search_serve.COMMANDS,
}
