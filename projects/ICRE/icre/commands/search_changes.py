"""`search add`, `remove`, `merge`, `info` and `verify`: galleries that change."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from icre.commands import search_images as shared
from icre.utils import cli
from icre.utils.choice import natural
from icre.utils.errors import UserError, printable

if TYPE_CHECKING:
    from icre.gallery.backend import Gallery


def _add_gallery(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("gallery", type=Path, metavar="GALLERY")


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Of `add`."""
    _add_gallery(sub)
    sub.add_argument("sources", nargs="+", metavar="DIR_OR_TABLE", help=shared.SOURCES)
    sub.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out images that the gallery has already, by path and box",
    )
    shared.add_extraction(sub)
    shared.add_images(sub)
    shared.add_weights(sub)
    shared.add_store(sub)


def add(args: argparse.Namespace) -> None:
    """Add images to a gallery."""
    from icre.gallery.changes import new_images
    from icre.inference.galleries import add_images, check_shard_size, open_with_model

    check_shard_size(args.shard)
    store = shared.open_store(args, args.gallery)
    known = store.open()
    images = shared.collect_images(args.sources, args)
    new = new_images(known, images, args.skip_existing)
    there = len(images) - len(new)
    if there:
        print(f"{there} of {len(images)} images are there already, and left out")
    if not len(new):
        return
    device = shared.device_here(args)
    if store.is_remote:
        from icre.inference.stores import write_images

        with shared.staged_for(args, store, new) as staged:
            _, extractor = open_with_model(store, args.weights, device)
            added, skipped, there = write_images(
                store, extractor, new, args.shard, args.skip_corrupt, staged=staged(extractor)
            )
        changed = store.open()
        if there:
            print(f"went on: {there} of {len(new)} images were there")
    else:
        with shared.features_by(args, Path(args.gallery)) as features:
            gallery, extractor = open_with_model(store, args.weights, device)
            change, skipped = add_images(
                gallery, extractor, new, args.shard, args.skip_corrupt, features
            )
        added, changed = change.images, change.gallery
        _tell_index(changed, change.rebuilt)
    shared.show_skipped(skipped)
    cli.show(f"{store.name}: {len(added)} images added, now {len(changed.images)}")
    show_change(changed)


def remove_arguments(sub: argparse.ArgumentParser) -> None:
    """Of `remove`."""
    _add_gallery(sub)
    shared.add_filter(sub, "removed are")
    sub.add_argument(
        "--reason", default="", metavar="TEXT", help="is written into the gallery's log of removals"
    )
    shared.add_store(sub)


def remove(args: argparse.Namespace) -> None:
    """Remove images from a gallery."""
    from icre.gallery import staging

    store = shared.open_store(args, args.gallery)
    conditions = shared.read_filter(args)
    if not conditions:
        raise UserError("remove: name a condition, such as --identity X or --before TIME")
    change = store.remove(conditions, args.reason)
    if store.is_remote:  # features that an addition by a cluster left here
        staging.discard_stopped(Path(store.title))
    _tell_index(change.gallery, change.rebuilt)
    cli.show(
        f"{store.name}: {len(change.images)} images removed, now {len(change.gallery.images)}; "
        "their features, rows and vectors are deleted, the image files are not"
    )
    if change.answers:
        cli.show("written earlier from this gallery, may still hold them:")
        cli.show("\n".join(f"  {printable(path)}" for path in change.answers))
    show_change(change.gallery)


def merge_arguments(sub: argparse.ArgumentParser) -> None:
    """Of `merge`."""
    sub.add_argument("galleries", nargs="+", type=Path, metavar="GALLERY", help="two or more")
    sub.add_argument("--out", required=True, type=Path, metavar="GALLERY")
    sub.add_argument(
        "--skip-existing",
        action="store_true",
        help="take an image that several galleries have from the first of them",
    )


def merge(args: argparse.Namespace) -> None:
    """Write a gallery of the images of others."""
    from icre.gallery.staging import check_absent, check_staging
    from icre.gallery.store import open_gallery
    from icre.gallery.writing import merge

    if len(args.galleries) < 2:
        raise UserError("merge: name at least two galleries")
    check_absent(args.out)
    check_staging(args.out)
    galleries = [open_gallery(folder) for folder in args.galleries]
    merge(args.out, galleries, args.skip_existing)
    merged = open_gallery(args.out)
    cli.show(
        f"{args.out}: {len(merged.images)} images, index {merged.manifest['index']}, not calibrated"
    )


def look_arguments(sub: argparse.ArgumentParser) -> None:
    """Of `info` and `verify`."""
    _add_gallery(sub)
    shared.add_store(sub)


def info(args: argparse.Namespace) -> None:
    """Print what a gallery holds."""
    store = shared.open_store(args, args.gallery)
    gallery = store.open()
    manifest, images, behind = gallery.manifest, gallery.images, gallery.beside
    cameras, people = sorted(images.names("camera"), key=natural), images.names("identity")
    lines = {
        "images": f"{len(images)} of {manifest['dimensions']} dimensions",
        "version": f"{gallery.version}",
        "index": manifest["index"] + (f", {behind} images searched beside it" if behind else ""),
        "model": f"{manifest['model']['weights']} (SHA-256 {manifest['model']['sha256'][:12]}...)",
        "cameras": _listed(cameras),
        "people": f"{len(people) or 'none known'}",
        "times": " to ".join(images.time_span) if images.time_span else "none known",
        "attributes": _listed(images.attributes),
        "written": f"{manifest['made']}, changed {manifest.get('changed', manifest['made'])}",
    }
    for name, text in lines.items():
        cli.show(f"{name:11}{printable(text)}")
    if images.is_sampled:
        cli.show("note: cameras, people, times and attributes are those of a part of the images")
    for entry in store.removals(gallery.version):
        count = len(entry.get("rows", []))
        what = f"{count} images, {entry.get('date')}: {entry.get('reason')}"
        cli.show(f"removed    {printable(what)}")
    show_change(gallery)
    left = store.leftovers()
    if left:
        cli.show(f"note: {left}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more if names else "none known"


def verify(args: argparse.Namespace) -> None:
    """Read all of a gallery and compare it with its checksums."""
    for line in shared.open_store(args, args.gallery).verify():
        cli.show(line)


def show_change(gallery: "Gallery") -> None:
    """How far a calibrated gallery has changed since."""
    if not gallery.calibrations:
        return
    change = gallery.change
    if change["added"] or change["removed"]:
        share = (change["added"] + change["removed"]) / max(change["images"], 1)
        cli.show(
            f"note: calibrated with {change['images']} images; since then {change['added']} were "
            f"added and {change['removed']} removed ({100 * share:.1f} %): renew it with calibrate"
        )


def _tell_index(gallery: "Gallery", rebuilt: bool) -> None:
    if rebuilt:
        kind = gallery.manifest["index"]
        print(f"the index ({kind}) was built anew, of all {len(gallery.images)} images")
    elif gallery.beside:
        print(f"{gallery.beside} images are searched one by one beside the index")


# name -> (description, function that adds its arguments, function that runs it)
COMMANDS = {
    "add": ("add images to a gallery; continues after an interruption", add_arguments, add),
    "remove": (
        "remove images from a gallery: features, rows, vectors of the index",
        remove_arguments,
        remove,
    ),
    "merge": ("make a gallery of the images of others", merge_arguments, merge),
    "info": ("what a gallery holds, and what was removed from it", look_arguments, info),
    "verify": ("read all of a gallery and compare it with its checksums", look_arguments, verify),
}
