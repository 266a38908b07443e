"""The fields of the requests: images, what is known of them, and conditions."""

from pathlib import PurePath
from typing import Annotated, Literal

import anyio
import numpy as np
import torch
from anyio import CapacityLimiter
from fastapi import Depends, File, Form, Request, UploadFile
from starlette.exceptions import HTTPException

from icre.gallery.filters import Filter
from icre.gallery.table import ImageTable
from icre.modality import NAMES
from icre.serve.limits import Limits
from icre.serve.model import Model
from icre.utils.image import decode_image

Images = Annotated[list[UploadFile], File(description="crops of one person each")]
Modality = Annotated[Literal[NAMES], Form(description="of the images")]  # type: ignore[valid-type]
Texts = Annotated[list[str], Form()]
Text = Annotated[str | None, Form()]
PATTERNS = 100  # of paths in a request; each is compared with each path


def conditions(
    camera: Annotated[list[str], Form(description="any of these cameras")] = [],  # noqa: B006
    not_camera: Annotated[list[str], Form(description="none of these")] = [],  # noqa: B006
    identity: Annotated[list[str], Form(description="any of these people")] = [],  # noqa: B006
    in_modality: Annotated[
        list[str], Form(description="images of the gallery of these modalities")
    ] = [],  # noqa: B006
    after: Annotated[str | None, Form(description="at or after it: ISO 8601, UTC")] = None,
    before: Annotated[str | None, Form(description="before it")] = None,
    path: Annotated[list[str], Form(description="patterns of the whole path")] = [],  # noqa: B006
    where: Annotated[list[str], Form(description="KEY=VALUE of an attribute")] = [],  # noqa: B006
) -> Filter:
    """The filter of a request, with the fields of the command line.

    Raises:
        HTTPException: 422; more patterns than `PATTERNS`.
    """
    if len(path) > PATTERNS:
        raise HTTPException(422, f"{len(path)} patterns of paths: allowed are {PATTERNS}")
    return Filter.parse(
        modality=in_modality,
        camera=camera,
        not_camera=not_camera,
        identity=identity,
        after=after or None,
        before=before or None,
        path=path,
        where=where,
    )


Conditions = Annotated[Filter, Depends(conditions)]
CONDITIONS = (
    *("camera", "not_camera", "identity", "in_modality", "after", "before", "path", "where"),
)


async def check_fields(request: Request, known: tuple[str, ...]) -> None:
    """Refuse fields that no route reads: a misspelt filter would let everything pass."""
    if request.query_params:
        raise HTTPException(422, "give the fields in the form, not in the address")
    unknown = sorted(set(await request.form()) - set(known))
    if unknown:
        raise HTTPException(422, f"unknown field {unknown[0]!r}; known are {', '.join(known)}")


class Reader:
    """Decodes the images of requests, a few at a time.

    Args:
        model: prepares them.
        limits: of their size and number.
    """

    def __init__(self, model: Model, limits: Limits):
        self.model, self.limits = model, limits
        self.threads = CapacityLimiter(2)  # each may hold an image of `limits.pixels`

    async def read(
        self, images: list[UploadFile], modality: str
    ) -> tuple[list[torch.Tensor], list[tuple[bytes, str]]]:
        """The prepared images, and the content and format of each file.

        Raises:
            HTTPException: 422; too many images, or one that cannot be read.
        """
        if len(images) > self.limits.images:
            raise HTTPException(422, f"{len(images)} images: allowed are {self.limits.allowed}")
        number, tensors, files = NAMES.index(modality), [], []
        for place, file in enumerate(images, start=1):
            content = await file.read()

            def prepare(content: bytes = content) -> tuple[torch.Tensor, str]:
                image, form = decode_image(content, self.limits.pixels)
                return self.model.prepare(image, number), form

            try:
                tensor, form = await anyio.to_thread.run_sync(prepare, limiter=self.threads)
            except ValueError as error:
                raise HTTPException(
                    422, f"image {place}: {error}; allowed are {self.limits.allowed}"
                ) from None
            tensors.append(tensor)
            files.append((content, form))
        return tensors, files


def query_table(images: list[UploadFile], modality: str) -> ImageTable:
    """The queries of a request: of each the file's name, without a folder, and the modality."""
    names = [
        PurePath(file.filename or "").name or f"image {place}"
        for place, file in enumerate(images, start=1)
    ]
    unknown = [""] * len(names)
    modalities = np.full(len(names), NAMES.index(modality), dtype=np.int64)
    return ImageTable(names, modalities, unknown, unknown)
