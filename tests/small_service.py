"""A small gallery of real images that is served with a model of 4x4 pixels."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from starlette.testclient import TestClient

from icre.gallery.backend import Store
from icre.gallery.folder import FolderStore
from icre.gallery.store import ModelInfo
from icre.gallery.table import ImageTable
from icre.gallery.writing import write
from icre.modality import NAMES
from icre.serve.app import Service
from icre.serve.audit import Audit
from icre.serve.limits import Limits
from icre.serve.metrics import Metrics
from icre.serve.served import ServedGallery
from icre.serve.tokens import Tokens

MODEL = ModelInfo("model.pth", "a" * 64, "MODEL: {}\n")
READ, WRITE = "r" * 32, "w" * 32
TOKENS = (f"reader read {READ}", f"writer write {WRITE}")
COUNT = 12


def held(model: "SmallModel") -> tuple[Callable[[], None], Callable[[], None]]:
    """Let the model wait in its next batch.

    Returns:
        A function that waits until it does, and one that lets it go on.
    """
    begun, go = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go.wait(10)

    def is_held() -> None:
        assert begun.wait(10)

    def release() -> None:
        model.before = lambda: None
        go.set()

    model.before = hold
    return is_held, release


class SmallModel:
    """Sixteen pixels of an image are its feature; `batches` has the sizes that were computed."""

    def __init__(self):
        self.batches: list[int] = []
        self.before = lambda: None  # called in the model's thread

    def prepare(self, image: Image.Image, modality: int) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image.resize((4, 4)), dtype=np.float32).ravel() + 1)

    def features(self, images, modalities) -> np.ndarray:
        self.before()
        self.batches.append(len(images))
        vectors = np.stack([one.numpy() for one in images]) - 128
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def picture(seed: int, size: tuple[int, int] = (32, 64)) -> bytes:
    """A PNG file of noise in 4x4 blocks."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def make_gallery(folder: Path, model: ModelInfo = MODEL) -> Path:
    """COUNT images of three cameras and four people, a day apart."""
    folder.mkdir()
    paths = []
    for number in range(COUNT):
        paths.append(folder / f"image {number}.png")
        paths[-1].write_bytes(picture(number))
    table = ImageTable(
        [str(path) for path in paths],
        np.arange(COUNT) % 2,
        [str(number % 3) for number in range(COUNT)],
        [f"person {number // 3}" for number in range(COUNT)],
        np.datetime64("2026-11-01T12:00", "us") + np.arange(COUNT).astype("m8[D]"),
        attributes={"weather": ["rain", "sun"] * (COUNT // 2)},
    )
    small = SmallModel()
    images = [small.prepare(Image.open(path).convert("RGB"), 0) for path in paths]
    write(folder / "gallery", table, [small.features(images, [0] * COUNT)], model, "flat")
    return folder / "gallery"


@contextmanager
def serving(gallery: Path | Store, **options: object) -> Iterator[TestClient]:
    """A client of a service; options are `tokens` (lines), `audit`, `uploads` and limits.

    The client's `service` is the Service, and its model a SmallModel.
    """
    tokens = Tokens(options.pop("tokens", ()), "tokens" if "tokens" in options else "")
    audit, uploads = Audit(options.pop("audit", None)), options.pop("uploads", None)
    metrics = Metrics()
    store = FolderStore(gallery) if isinstance(gallery, Path) else gallery
    seen = store.status()
    served = ServedGallery(store, store.open(), seen, metrics, torch.device("cpu"))
    limits = Limits(**options)
    service = Service(served, SmallModel(), limits, tokens, audit, metrics, uploads)
    with TestClient(service.app(), base_url="http://127.0.0.1:8000") as client:
        client.service = service
        yield client


def ask(client: TestClient, *seeds: int, token: str | None = None, **fields: object):
    """The reply to a query for pictures."""
    files = [("image", (f"{seed}.png", picture(seed), "image/png")) for seed in seeds]
    data = {"modality": NAMES[1], **fields}
    return client.post("/v1/query", files=files, data=data, headers=bearer(token))


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}
