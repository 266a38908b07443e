"""What the sub-commands of `search` share: images and what is known of them, and filters."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from icre.commands import arguments
from icre.modality import NAMES
from icre.utils import cli
from icre.utils.errors import UserError, printable

if TYPE_CHECKING:  # imported where they are used, for a quick --help
    from icre.gallery.backend import Store
    from icre.gallery.filters import Filter
    from icre.gallery.milvus.store import MilvusStore
    from icre.gallery.table import ImageTable
    from icre.inference.extractor import FeatureExtractor
    from icre.inference.galleries import StagedFeatures

SOURCES = (
    "crops of one person each (or, with --boxes, full frames): images, folders of images, lists (a "
    "path per line) or tables (.csv, .tsv, .parquet: path, modality, camera, identity, time and "
    "columns of your own); with --cluster also URLs (s3://, gs://)"
)


def add_images(sub: argparse.ArgumentParser) -> None:
    """--modality, --pattern and --boxes: what `collect` reads."""
    sub.add_argument("--modality", choices=NAMES, help="default: read from the images' paths")
    sub.add_argument(
        "--pattern",
        metavar="TEXT",
        help="what the end of a path says, such as '{camera}/{time:%%Y%%m%%d_%%H%%M%%S}.jpg'; "
        "fields: camera, identity, modality, time:FORMAT, and names of your own; * is any text",
    )
    sub.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help="cut the people out of the images: COCO annotations or results (.json), or a table "
        "(image, x, y, w, h and columns of your own), of any detector",
    )


def collect_images(sources: list[str], args: argparse.Namespace) -> "ImageTable":
    """The images of the sources, with a note where a path says another modality."""
    from icre.gallery.images import collect, contradictions
    from icre.gallery.pattern import Pattern

    pattern = Pattern(args.pattern) if args.pattern else None
    remote = bool(getattr(args, "cluster", None))
    images = collect(sources, args.modality, pattern, args.boxes, remote)
    against = contradictions(images)
    if against:
        cli.show(
            f"note: {len(against)} images are taken as --modality or a table says, though their "
            f"paths say otherwise, such as {against[0]}"
        )
    return images


def add_filter(sub: argparse.ArgumentParser, what: str) -> None:
    """Conditions on images of a gallery."""
    group = sub.add_argument_group("conditions", f"{what} images that meet all of these:")
    group.add_argument("--camera", nargs="+", metavar="C", help="any of these cameras")
    group.add_argument("--not-camera", nargs="+", metavar="C", help="none of these")
    group.add_argument("--identity", nargs="+", metavar="X", help="any of these people")
    group.add_argument(
        "--after",
        metavar="TIME",
        help="at or after it: 2026-11-01T18:00, with Z or +02:00, or seconds since 1970; without a "
        "zone it is UTC, as times of images are",
    )
    group.add_argument("--before", metavar="TIME", help="before it")
    group.add_argument(
        "--path", nargs="+", metavar="GLOB", help="such as '*/door/*'; the whole path, with * ? []"
    )
    group.add_argument(
        "--where",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="an attribute: a further column of a table, or a field of --pattern",
    )
    group.add_argument(
        "--in-modality", nargs="+", choices=NAMES, help="images of the gallery of this modality"
    )


def read_filter(args: argparse.Namespace) -> "Filter":
    """The conditions of `add_filter`."""
    from icre.gallery.filters import Filter

    names = ("camera", "not_camera", "identity", "after", "before", "path", "where")
    options = {name: getattr(args, name) for name in names}
    return Filter.parse(modality=args.in_modality, **options)


def add_store(sub: argparse.ArgumentParser) -> None:
    """--store and what it takes: `open_store` reads them."""
    group = sub.add_argument_group("a gallery in Milvus, by its name in place of a folder")
    group.add_argument(
        "--store",
        metavar="URI",
        help="https://HOST:PORT or http://HOST:PORT, with /DATABASE where it is not the default "
        "one, or for milvus-lite a file name that ends in .db (extra milvus)",
    )
    group.add_argument(
        "--store-token",
        metavar="FILE",
        help="holds the token or user:password (default: the environment variable "
        "ICRE_STORE_TOKEN, if set)",
    )
    group.add_argument(
        "--store-ca", metavar="PEM", help="certificates to trust (default: the system's)"
    )


def open_store(args: argparse.Namespace, gallery: str | Path, patient: bool = True) -> "Store":
    """The place of a gallery: a folder, or with --store a name in Milvus.

    Args:
        args: with the arguments of `add_store`.
        gallery: the folder or the name.
        patient: wait and try again where Milvus does not answer.
    """
    if args.store is None:
        from icre.gallery.folder import FolderStore

        for option in ("store_token", "store_ca"):
            if getattr(args, option) is not None:
                raise UserError(f"--{option.replace('_', '-')} needs --store")
        return FolderStore(gallery)
    return _in_milvus(args, gallery, patient)


def open_new(args: argparse.Namespace, gallery: str | Path) -> "tuple[MilvusStore, str]":
    """The place of a gallery that is made in Milvus, and its kind of index.

    Raises:
        UserError: there is one, or Milvus has no such index.
    """
    from icre.gallery.milvus.rows import KINDS

    store, kind = _in_milvus(args, gallery), args.index or "hnsw"
    if kind not in KINDS or (kind == "diskann" and store.client.address.is_local):
        where = "milvus-lite" if kind in KINDS else "--store"
        raise UserError(f"--index {kind} is none of {where}: choose flat, hnsw or ivf")
    store.check_absent()
    return store, kind


def _in_milvus(
    args: argparse.Namespace, gallery: str | Path, patient: bool = True
) -> "MilvusStore":
    from icre.gallery.milvus.address import parse_address
    from icre.gallery.milvus.connection import Client
    from icre.gallery.milvus.store import MilvusStore

    address = parse_address(args.store, args.store_token, args.store_ca)
    client = Client(address) if patient else Client(address, timeout=5, attempts=1)
    return MilvusStore(client, str(gallery))


def add_weights(sub: argparse.ArgumentParser) -> None:
    """--weights of an existing gallery."""
    sub.add_argument("--weights", metavar="FILE", help="the gallery's checkpoint, if it was moved")


def add_extraction(sub: argparse.ArgumentParser) -> None:
    """--skip-corrupt, --shard, --cluster and --workers."""
    sub.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="leave out images that cannot be read, and print them",
    )
    sub.add_argument(
        "--shard", type=int, default=1024, metavar="N", help="images between two saves (1024)"
    )
    arguments.add_cluster(sub, "compute features")
    arguments.add_workers(sub)


@contextmanager
def features_by(
    args: argparse.Namespace, folder: Path
) -> Iterator[Callable[..., "StagedFeatures"]]:
    """What computes features: this process, or the machines of --cluster, which must see `folder`.

    While entered, the cluster is connected.
    """
    from icre.inference.galleries import StagedFeatures

    if not args.cluster:
        if args.workers is not None:
            raise UserError("--workers goes with --cluster")
        yield StagedFeatures
        return
    from icre.cluster.connect import connected
    from icre.inference.ray_features import ClusterFeatures

    with connected(args.cluster, folder, args.device) as cluster:
        yield partial(ClusterFeatures, cluster=cluster, device=args.device, workers=args.workers)


@contextmanager
def staged_for(
    args: argparse.Namespace, store: "MilvusStore", images: "ImageTable"
) -> Iterator[Callable[["FeatureExtractor"], "StagedFeatures | None"]]:
    """What computes features for a store: None, or the machines of --cluster.

    Those leave them in a folder below the current one, which they see, until the store has them:
    it is deleted after a block that ends well.
    """
    from icre.gallery import staging

    name = Path(store.title)
    below = staging.staging_folder(name) / staging.SHARDS
    if args.cluster:
        staging.check_staging(name)
    with features_by(args, Path.cwd()) as features:
        if not args.cluster:
            yield lambda _: None
            return
        with staging.held(name):
            yield lambda extractor: features(below, images, extractor, args.shard)
            staging.discard(name)


def device_here(args: argparse.Namespace) -> str:
    """MODEL.DEVICE of this process's model; on a cluster the GPUs are those of the workers."""
    return "auto" if args.cluster else args.device


def show_skipped(skipped: list[tuple[str, str]]) -> None:
    """A line for each image that was left out."""
    for path, reason in skipped:
        cli.show(f"skipped {printable(path)}: {printable(reason)}")
