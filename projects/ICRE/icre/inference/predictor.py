"""`icre.load`: a trained model as a function from images to unit vectors.

    import icre
    predictor = icre.load("output/demo")
    night = predictor("query.jpg", modality="infrared")   # (1, D)
    day = predictor("gallery/", modality="visible")       # (N, D)
    similarity = night @ day.T                            # cosine

Shapes: N images, D dimensions of the model's feature.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from icre.compat import is_two_stream

from icre.gallery.images import collect
from icre.inference.extractor import FeatureExtractor
from icre.inference.run import open_model
from icre.modality import NAMES, VISIBLE
from icre.utils.errors import UserError
from icre.utils.image import read_image

# a file, a folder, a list of files; or an image in memory
Source = str | Path | Image.Image | np.ndarray


class Predictor:
    """Features of images, which are prepared as in the model's evaluation.

    Args:
        extractor: the model, on its device.

    Attributes:
        needs_modality: whether the features depend on the modality; not for fast-reid's models.
    """

    def __init__(self, extractor: FeatureExtractor):
        self.extractor = extractor
        self.needs_modality = is_two_stream(type(extractor.model))

    def __call__(
        self, images: Source | Sequence[Source], modality: str | Sequence[str] | None = None
    ) -> np.ndarray:
        """Features of images; similarity is their dot product (cosine).

        Args:
            images: one or a list of: a file, a folder (all images below it, in the order of their
                names), a text file of one path per line, a PIL image, or an array (H, W, 3) of
                8-bit RGB. Any size; they are resized.
            modality: a name of `icre.modality`, for all or for each entry of `images`. None: for
                paths in the layout of SYSU-MM01, RegDB or LLCM, the modality of that path.

        Returns:
            (N, D) float32 rows of length 1, in the order of the images.

        Raises:
            UserError: an image that cannot be read, or of unknown modality.
        """
        sources = [images] if isinstance(images, Source) else list(images)
        names = _names(modality, len(sources))
        found = [one for source, name in zip(sources, names) for one in self._images(source, name)]
        if not found:
            raise UserError("no images were given: name files, folders or arrays")
        return self.extractor.features(*zip(*found))

    def _images(self, source: Source, name: str | None) -> Iterator[tuple[str | Image.Image, int]]:
        """(path or image, modality) of each image of a source."""
        if name is None and not self.needs_modality:
            name = NAMES[VISIBLE]
        if isinstance(source, (str, Path)):
            table = collect([source], name)
            yield from zip(table.paths, table.modalities.tolist())
            return
        if name is None:
            raise UserError(
                "an image in memory does not say its modality: give modality="
                + " or ".join(f'"{one}"' for one in NAMES)
            )
        yield _in_memory(source), NAMES.index(name)


def load(
    path: str | Path, device: str = "auto", trust_imports: bool = False, source: str = ""
) -> Predictor:
    """Load the model of a finished run, or of a checkpoint.

    Args:
        path: a run's folder (OUTPUT_DIR), a checkpoint, or "synthvi-small": a model that comes with
            the package, of rendered people. See `icre.inference.run.find_model`.
        device: auto (a GPU if there is one), cpu or cuda:N.
        trust_imports: import the modules that the run's config names (IMPORTS); only a model that
            has parts of its own needs them.
        source: agw, caj, deen or mpanet: `path` is a file that the training of that public code
            wrote, and images are prepared and features made as its test code does.

    Raises:
        UserError: there is no checkpoint, no config, or they do not fit each other; the model needs
            modules that are not trusted.
    """
    return Predictor(
        open_model(path, "MODEL.DEVICE", device, trust_imports=trust_imports, source=source)
    )


def _names(modality: str | Sequence[str] | None, count: int) -> list[str | None]:
    """One modality's name, or None, per source."""
    if modality is None or isinstance(modality, str):
        names = [modality] * count
    else:
        names = list(modality)
    if len(names) != count:
        raise UserError(f"{len(names)} modalities were given for {count} images")
    for name in names:
        if name is not None and name not in NAMES:
            raise UserError(f"modality {name!r} is none of {', '.join(NAMES)}")
    return names


def _in_memory(image: Image.Image | np.ndarray) -> Image.Image:
    """A PIL image in 8-bit RGB; an array must be (H, W, 3) uint8.

    Pillow reads an opened file lazily, which must not happen in several threads.
    """
    if isinstance(image, Image.Image):
        return read_image(image)
    if not isinstance(image, np.ndarray):
        raise UserError(f"an image is a path, a PIL image or an array, not {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise UserError(
            f"an array must be one image (H, W, 3) of uint8 RGB, not {image.shape} of {image.dtype}"
        )
    return Image.fromarray(image)
