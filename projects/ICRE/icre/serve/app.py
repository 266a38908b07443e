"""The routes."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from anyio import CapacityLimiter
from fastapi import Depends, FastAPI, Form, Request
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response

import icre
from icre.gallery.answers import Answer, as_json, not_comparable
from icre.gallery.backend import StoreUnavailable
from icre.modality import NAMES
from icre.serve import changing
from icre.serve.audit import Audit
from icre.serve.forms import (
    CONDITIONS,
    Conditions,
    Images,
    Modality,
    Reader,
    Text,
    Texts,
    check_fields,
    query_table,
)
from icre.serve.guard import ADD, QUERY, REMOVE, Guard
from icre.serve.limits import Limits
from icre.serve.metrics import Metrics
from icre.serve.model import Model
from icre.serve.replies import Json, add_handlers
from icre.serve.served import ServedGallery, Version
from icre.serve.tokens import Tokens
from icre.serve.worker import Job, Options, Worker
from icre.utils.html import render

logger = logging.getLogger("fastreid.icre")


@dataclass(frozen=True)
class Found:
    """The answer to a query: the version that was searched, and an `Answer` for each image.

    `note` says so where images of both modalities are ranked by similarities that do not compare.
    The picture of a match is at /v1/images/{version}/{row}.
    """

    version: int
    answers: list[Answer]
    note: str | None = None


class Service:
    """A gallery with its model, ready to answer.

    Args:
        served: the gallery.
        model: of its features.
        limits: of the requests.
        tokens: who may ask.
        audit: gets a line of each query and change.
        metrics: those of `served`.
        uploads: folder of the images that requests add, absolute; None: they may not.
    """

    def __init__(
        self,
        served: ServedGallery,
        model: Model,
        limits: Limits,
        tokens: Tokens,
        audit: Audit,
        metrics: Metrics,
        uploads: Path | None = None,
    ):
        self.served, self.model, self.limits, self.uploads = served, model, limits, uploads
        self.tokens, self.audit, self.metrics = tokens, audit, metrics
        self.worker = Worker(model, limits.batch, metrics)
        self.reader = Reader(model, limits)
        self.changing = asyncio.Lock()  # one change at a time
        self.pictures = CapacityLimiter(2)

    async def version(self) -> Version:
        """The newest version of the gallery."""
        if self.served.is_current():
            return self.served.newest
        return await anyio.to_thread.run_sync(self.served.refresh)

    async def compute(self, job: Job) -> Any:
        """The result of a job; a job whose request ends earlier is taken back if it still waits."""
        return await asyncio.wrap_future(self.worker.submit(job))

    def app(self) -> Guard:
        """The ASGI application."""

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            yield
            self.worker.close()

        app = FastAPI(
            title="ICRE gallery",
            version=icre.__version__,
            lifespan=lifespan,
            docs_url=None,  # FastAPI's pages load scripts from another host
            redoc_url=None,
            default_response_class=Json,
        )
        add_handlers(app, self.served.brief)
        _add_page(app, self)
        _add_state(app, self)
        _add_search(app, self)
        _add_changes(app, self)
        return Guard(app, self.tokens, self.limits, self.audit, self.metrics)


TOKEN = [Depends(HTTPBearer(auto_error=False, description="needed where the service has tokens"))]


def _add_page(app: FastAPI, service: Service) -> None:
    name = service.served.name
    for path, template, kind in (
        ("/", "serve.html", "text/html"),
        ("/serve.css", "serve.css", "text/css"),
        ("/serve.js", "serve.js", "text/javascript"),
    ):
        text = render("icre.serve", template, title=f"{name}: search", name=name)

        def reply(content: bytes = text.encode(), media_type: str = kind) -> Response:
            return Response(content, media_type=media_type)

        app.add_api_route(path, lambda reply=reply: reply(), include_in_schema=False)


def _add_state(app: FastAPI, service: Service) -> None:
    served = service.served

    @app.get("/health")
    async def health() -> Json:
        """Whether the service answers, and whether it serves what is on the disk."""
        model = "ready" if service.worker.is_alive else "ending"
        content: dict[str, Any] = {"icre": icre.__version__, "model": model}
        try:
            version = await anyio.to_thread.run_sync(served.refresh)
        except StoreUnavailable as error:
            logger.error("%s", error)
            problem = "the store does not answer, or does not hold the gallery that was served"
            content |= {"status": "unavailable", "store": "unavailable", "problem": problem}
            return Json(content, 503)
        status = "stale" if served.problem else "ok"
        content |= {"status": status, "store": status, "version": version.gallery.version}
        if served.problem:
            content["problem"] = "the gallery on the disk cannot be served; an older version is"
        if model == "ending":
            return Json(content | {"status": model}, 503)
        return Json(content)

    @app.get("/v1/info", dependencies=TOKEN)
    async def info(request: Request) -> Json:
        """The gallery, what a filter can name, the limits, and what the token may do."""
        version = await service.version()
        summary = await anyio.to_thread.run_sync(lambda: version.summary)
        gallery, holder = version.gallery, request.state.holder
        return Json(
            {
                "icre": icre.__version__,
                "gallery": served.name,
                "version": gallery.version,
                "index": gallery.manifest["index"],
                "model": gallery.manifest["model"]["sha256"],
                "problem": served.problem,
                **summary,
                "limits": asdict(service.limits),
                "token": holder.name,
                "may_change": holder.writes,
            }
        )

    @app.get("/metrics", dependencies=TOKEN)
    async def metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


def _add_search(app: FastAPI, service: Service) -> None:
    @app.post(QUERY, dependencies=TOKEN, responses={200: {"model": Found}})
    async def query(
        request: Request,
        image: Images,
        modality: Modality,
        filter: Conditions,
        top: Annotated[int, Form(ge=1, description="matches per image")] = 10,
        far: Annotated[float | None, Form(gt=0, lt=1, description="false alarm rate")] = None,
        rerank: Annotated[Literal["fastreid", "original"] | None, Form()] = None,
    ) -> Json:
        """Search for the people of some images."""
        request.state.audit.update(
            images=len(image), modality=modality, filter=str(filter), top=top, far=far,
            rerank=rerank,
        )  # fmt: skip
        await check_fields(request, ("image", "modality", *CONDITIONS, "top", "far", "rerank"))
        if top > service.limits.top:
            raise HTTPException(422, f"top: {top} is above the limit of {service.limits.top}")
        async with asyncio.timeout_at(request.state.deadline):
            gallery = (await service.version()).gallery
            request.state.audit["version"] = gallery.version
            tensors, _ = await service.reader.read(image, modality)
            queries = query_table(image, modality)
            options = Options(top, far, rerank, filter or None)
            job = Job(tensors, NAMES.index(modality), gallery, queries, options)
            answers: list[Answer] = await service.compute(job)
        request.state.audit["here"] = [one.here for one in answers]
        return Json(
            {
                "version": gallery.version,
                "answers": as_json(answers),
                "note": not_comparable(gallery, queries),
            }
        )

    @app.get("/v1/images/{version}/{row}", dependencies=TOKEN, response_class=Response)
    async def picture(request: Request, version: int, row: str) -> Response:
        """The picture of a row of the gallery, as a small JPEG file."""
        newest = await service.version()
        if version != newest.gallery.version and not newest.gallery.has_keys:
            raise HTTPException(410, "the gallery has changed: search again")
        async with asyncio.timeout_at(request.state.deadline):
            try:
                content = await anyio.to_thread.run_sync(
                    newest.picture, row, limiter=service.pictures
                )
            except LookupError:
                raise HTTPException(404, "the gallery has no such row") from None
        if content is None:
            raise HTTPException(404, "the image file cannot be read")
        return Response(content, media_type="image/jpeg")


def _add_changes(app: FastAPI, service: Service) -> None:
    served, uploads = service.served, service.uploads

    @app.post(ADD, dependencies=TOKEN)
    async def add(
        request: Request,
        image: Images,
        modality: Modality,
        camera: Text = None,
        identity: Text = None,
        time: Text = None,
        where: Texts = [],  # noqa: B006
    ) -> Json:
        """Add images; what is said of them is said of all. Needs a token that may write."""
        fields = ("image", "modality", "camera", "identity", "time", "where")
        known = {"camera": camera, "identity": identity, "taken": time, "where": where}
        request.state.audit.update(images=len(image), modality=modality, **known)
        await check_fields(request, fields)
        if uploads is None:
            raise HTTPException(403, "the service was started without --uploads")
        async with asyncio.timeout_at(request.state.deadline):
            tensors, files = await service.reader.read(image, modality)
            images = changing.described(files, uploads, modality, camera, identity, time, where)
            features = await service.compute(Job(tensors, NAMES.index(modality)))
            await service.changing.acquire()
        try:
            result = await anyio.to_thread.run_sync(changing.add, served, images, files, features)
        finally:
            service.changing.release()
        request.state.audit.update(result)
        return Json(result)

    @app.post(REMOVE, dependencies=TOKEN)
    async def remove(
        request: Request, filter: Conditions, reason: Annotated[str, Form()] = ""
    ) -> Json:
        """Remove the images that meet all conditions. Needs a token that may write."""
        request.state.audit.update(filter=str(filter), reason=reason)
        await check_fields(request, (*CONDITIONS, "reason"))
        if not filter:
            raise HTTPException(422, "name a condition, such as identity or before")
        async with asyncio.timeout_at(request.state.deadline):
            await service.changing.acquire()
        try:
            result = await anyio.to_thread.run_sync(
                changing.remove, served, filter, reason, uploads
            )
        finally:
            service.changing.release()
        request.state.audit.update(result)
        return Json(result)
