"""Features of many images by the machines of a Ray cluster: one model on each GPU, by Ray Data."""

import logging
import os
import pickle
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from icre.cluster.connect import Cluster
from icre.config.imports import is_trusted
from icre.gallery.parquet_shards import ParquetShard
from icre.gallery.table import ImageTable
from icre.inference.extractor import FeatureExtractor, read_config
from icre.inference.galleries import StagedFeatures, fill
from icre.utils.errors import UserError
from icre.utils.progress import progress_bar
from icre.utils.remote import fetch, is_remote


@dataclass(frozen=True)
class Request:
    """What every worker is told.

    Attributes:
        config: of the model, YAML.
        weights: its checkpoint.
        fingerprint: of the extractor that the worker must get of them.
        device: MODEL.DEVICE.
        unit: see `FeatureExtractor`.
        trusted: import the modules that the config names.
        folder: the current one of the command, where such modules are.
        skip_corrupt: see `fill`.
    """

    config: str
    weights: str
    fingerprint: str
    device: str
    unit: bool
    trusted: bool
    folder: str
    skip_corrupt: bool


class ClusterFeatures(StagedFeatures):
    """`StagedFeatures` that the workers of a cluster compute, one shard at a time each, as Parquet.

    A worker that dies is replaced, and its shard computed again. The images of a shard are checked
    by its worker, so that a broken one ends the work when its shard comes.

    Args:
        folder, images, extractor, shard_size: as of `StagedFeatures`; images may be URLs, which
            workers copy for as long as they need them. All machines see folder, files and weights.
        cluster: connected.
        device: MODEL.DEVICE of the workers.
        workers: models at a time; None: one on each GPU, or on each CPU where there are none.

    Raises:
        UserError: more workers than the cluster has GPUs or CPUs.
    """

    kind = ParquetShard

    def __init__(
        self,
        folder: Path,
        images: ImageTable,
        extractor: FeatureExtractor,
        shard_size: int,
        *,
        cluster: Cluster,
        device: str = "auto",
        workers: int | None = None,
    ):
        self.cluster, self.device = cluster, device
        most = cluster.gpus if cluster.on_gpu else cluster.cpus
        if workers is not None and not 1 <= workers <= most:
            unit = "GPUs" if cluster.on_gpu else "CPUs"
            raise UserError(f"--workers {workers}: the cluster has {most} {unit}")
        self.workers = workers or most
        super().__init__(folder.absolute(), images, extractor, shard_size)

    def _fill(self, skip_corrupt: bool) -> None:
        import ray.data

        if not self.pending:
            return
        _quiet()
        tasks = [{"task": pickle.dumps((one, self.images.take(one.rows)))} for one in self.pending]
        workers = min(self.workers, len(tasks))
        resources = {"num_gpus": 1} if self.cluster.on_gpu else {"num_cpus": 1}
        answers = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map(
            ShardWorker,
            fn_constructor_args=(self._request(skip_corrupt),),
            concurrency=workers,
            **resources,
        )
        done = len(self.images) - sum(len(shard.rows) for shard in self.pending)
        bar = progress_bar(
            None, "extracting features", total=len(self.images), initial=done, unit="img"
        )
        with bar:
            for answer in answers.iter_rows():
                if answer["error"]:
                    raise UserError(answer["error"])
                bar.update(answer["images"])

    def _request(self, skip_corrupt: bool) -> Request:
        extractor = self.extractor
        return Request(
            extractor.cfg.dump(),
            str(extractor.weights),
            extractor.fingerprint,
            self.device,
            extractor.unit,
            is_trusted(),
            os.getcwd(),
            skip_corrupt,
        )


class ShardWorker:
    """A model in a process of its own: computes and saves the shards that it is sent."""

    def __init__(self, request: Request):
        self.request = request
        self.extractor: FeatureExtractor | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """{"images": how many the shard has, "error": one line, or ""}."""
        shard, images = pickle.loads(row["task"])
        try:
            self.extractor = self.extractor or self._open()
            own = replace(shard, rows=range(len(images)))
            with local_copies(images) as copies:
                fill([own], copies, self.extractor, self.request.skip_corrupt)
        except UserError as error:
            return {"images": 0, "error": str(error)}
        return {"images": len(images), "error": ""}

    def _open(self) -> FeatureExtractor:
        request = self.request
        os.chdir(request.folder)
        if not Path(request.weights).is_file():
            raise UserError(
                f"machine {socket.gethostname()} does not see {request.weights}: put it on a file "
                "system that all machines share under one path"
            )
        cfg = read_config(
            "", "MODEL.DEVICE", request.device, text=request.config, trust_imports=request.trusted
        )
        extractor = FeatureExtractor(cfg, request.weights, unit=request.unit)
        if extractor.fingerprint != request.fingerprint:
            raise UserError(
                f"machine {socket.gethostname()} reads another model at {request.weights}: put it "
                "on a file system that all machines share under one path"
            )
        return extractor


@contextmanager
def local_copies(images: ImageTable) -> Iterator[ImageTable]:
    """The same rows with a copy on this machine of each image that is a URL.

    A UserError in the block names the URL and not the copy.
    """
    urls = [path for path in images.paths if is_remote(path)]
    if not urls:
        yield images
        return
    with tempfile.TemporaryDirectory(prefix="icre-") as folder:
        places = fetch(urls, Path(folder))
        try:
            yield replace(images, paths=[places.get(path, path) for path in images.paths])
        except UserError as error:
            text = str(error)
            for url, place in places.items():
                text = text.replace(place, url)
            raise UserError(text) from None


def _quiet() -> None:
    """One progress bar and one message: ours."""
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
