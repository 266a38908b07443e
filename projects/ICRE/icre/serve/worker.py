"""One thread computes what all requests ask for, in batches."""

import logging
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch

from icre.gallery.answers import answer
from icre.gallery.backend import Gallery
from icre.gallery.filters import Filter
from icre.gallery.table import ImageTable
from icre.serve.metrics import Metrics
from icre.serve.model import Model
from icre.utils.errors import UserError

logger = logging.getLogger("fastreid.icre")


@dataclass(frozen=True)
class Options:
    """How a request wants to be answered, as arguments of `icre.gallery.answers.answer`."""

    top: int = 10
    far: float | None = None
    algorithm: str | None = None
    filter: Filter | None = None


@dataclass(eq=False)
class Job:
    """The images of a request.

    Args:
        images: as `Model.prepare` returns them, all of the same modality.
        modality: number of it.
        gallery, queries, options: what is searched; without them the result is the features.
        result: of `answer`, or (N, D) features.
    """

    images: Sequence[torch.Tensor]
    modality: int
    gallery: Gallery | None = None
    queries: ImageTable | None = None
    options: Options = Options()
    result: Future = field(default_factory=Future)

    @property
    def group(self) -> tuple[Any, ...]:
        """Jobs with the same are searched together."""
        return id(self.gallery), self.options, self.modality


class Worker:
    """A thread that takes what waits, up to a batch, and computes it; it waits for no more.

    Args:
        model: used by this thread alone.
        batch: images at once; a request of more is a batch of its own.
        metrics: get sizes and times.
    """

    def __init__(self, model: Model, batch: int, metrics: Metrics):
        self._model, self._batch, self._metrics = model, batch, metrics
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether jobs are computed."""
        return self._thread.is_alive() and not self._closed

    def submit(self, job: Job) -> Future:
        """Queue a job; returns its `result`, which may be cancelled while it waits."""
        with self._changed:
            if self._closed:
                raise RuntimeError("the service is ending")
            self._waiting.append(job)
            self._changed.notify()
        return job.result

    def close(self) -> None:
        """Finish what waits, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._take():
            self._compute(jobs)

    def _take(self) -> list[Job]:
        """The next jobs; none once the worker is closed."""
        jobs: list[Job] = []
        with self._changed:
            while not jobs:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return []
                count = 0
                while self._waiting and (
                    not jobs or count + len(self._waiting[0].images) <= self._batch
                ):
                    job = self._waiting.popleft()
                    if job.result.set_running_or_notify_cancel():
                        jobs.append(job)
                        count += len(job.images)
        return jobs

    def _compute(self, jobs: list[Job]) -> None:
        try:
            start = perf_counter()
            images = [image for job in jobs for image in job.images]
            modalities = [job.modality for job in jobs for _ in job.images]
            features = self._model.features(images, modalities)
            self._metrics.batch(len(images), perf_counter() - start)
        except Exception as error:
            self._fail(jobs, error)
            return
        groups: dict[tuple, list[tuple[Job, np.ndarray]]] = {}
        start = 0
        for job in jobs:
            part = features[start : start + len(job.images)]
            start += len(job.images)
            groups.setdefault(job.group, []).append((job, part))
        for group in groups.values():
            self._search(group)

    def _search(self, group: list[tuple[Job, np.ndarray]]) -> None:
        """Answer jobs that have gallery and options in common."""
        jobs = [job for job, _ in group]
        first = jobs[0]
        try:
            if first.gallery is None:
                for job, part in group:
                    job.result.set_result(part)
                return
            start = perf_counter()
            features = np.concatenate([part for _, part in group])
            queries = ImageTable.joined([job.queries for job in jobs if job.queries is not None])
            options = first.options
            found = answer(
                first.gallery,
                queries,
                features,
                options.top,
                options.far,
                options.algorithm,
                options.filter,
            )
            self._metrics.search(perf_counter() - start)
            for job in jobs:
                job.result.set_result(found[: len(job.images)])
                found = found[len(job.images) :]
        except Exception as error:
            self._fail(jobs, error)

    @staticmethod
    def _fail(jobs: Sequence[Job], error: Exception) -> None:
        """Give an error to all jobs that have no result; the thread goes on."""
        if not isinstance(error, UserError):
            logger.error("a batch of the service failed", exc_info=error)
        for job in jobs:
            if not job.result.done():
                job.result.set_exception(error)
