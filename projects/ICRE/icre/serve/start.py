"""Starting the service: everything is loaded and used once before the port opens."""

import socket
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvicorn

from icre.gallery.backend import Store
from icre.inference.galleries import open_with_model
from icre.serve.app import Service
from icre.serve.audit import Audit
from icre.serve.limits import Limits
from icre.serve.metrics import Metrics
from icre.serve.model import Model
from icre.serve.served import ServedGallery
from icre.serve.tokens import VARIABLE, Tokens, read_tokens
from icre.utils.errors import UserError
from icre.utils.secret import is_loopback


@dataclass(frozen=True)
class Settings:
    """Options of the command.

    Args:
        store: the gallery's place.
        weights, device: as of `open_with_model`.
        host, port: to listen at; port 0 is any that is free.
        tokens: file of tokens; None: the environment's.
        uploads: folder of images that requests add; None: they may not.
        audit: file of the audit lines, "-" for standard error, None for none.
        limits: of the requests.
    """

    store: Store
    weights: str | None = None
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    tokens: Path | None = None
    uploads: Path | None = None
    audit: str | None = "-"
    limits: Limits = field(default_factory=Limits)


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; requests that are being answered are finished first.

    Raises:
        UserError: an address of others without tokens, a port in use, or as `open_with_model`.
    """
    tokens = check(settings)
    with _bound(settings.host, settings.port) as listener:
        service = build(settings, tokens)
        limits = settings.limits
        config = uvicorn.Config(
            service.app(),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=4 * limits.waiting + 100,  # connections, the idle ones too
            timeout_graceful_shutdown=int(limits.seconds) + 1,
        )
        _Server(config, service.served).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, served: ServedGallery):
        super().__init__(config)
        self._served = served

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        host, port = sockets[0].getsockname()[:2]
        where = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        count = len(self._served.newest.gallery.images)
        print(f"{self._served.name}: {count} images, {where}", flush=True)


def check(settings: Settings) -> Tokens:
    """Find what would stop the service, before the model is opened; returns the tokens."""
    tokens = read_tokens(settings.tokens)
    if not is_loopback(settings.host) and not tokens:
        raise UserError(
            f"--host {settings.host}: others can reach it, so give --tokens FILE or {VARIABLE}"
        )
    if settings.uploads and not settings.uploads.is_dir():
        raise UserError(f"--uploads {settings.uploads} is no folder: make it first")
    return tokens


def build(settings: Settings, tokens: Tokens) -> Service:
    """Open gallery and model, and use both once."""
    audit, metrics = Audit(settings.audit), Metrics()
    seen = settings.store.status()
    gallery, extractor = open_with_model(settings.store, settings.weights, settings.device)
    model = Model(extractor)
    model.warm(sorted({1, settings.limits.batch}))
    gallery.nearest(np.eye(1, gallery.manifest["dimensions"], dtype=np.float32), 1)
    served = ServedGallery(settings.store, gallery, seen, metrics, extractor.device)
    uploads = settings.uploads and settings.uploads.resolve()
    return Service(served, model, settings.limits, tokens, audit, metrics, uploads)


def _bound(host: str, port: int) -> socket.socket:
    """A socket that has the port, and is not open yet."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port} is no port: choose one up to 65535")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise UserError(f"--host {host} --port {port}: {error}; choose another") from None
    return listener
