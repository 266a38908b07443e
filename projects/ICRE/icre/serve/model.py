"""The gallery's model, in the two steps of the service: preparing images, computing features."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from icre.data.pipeline import build_pipeline
from icre.evaluation.extraction import extract_features
from icre.inference.extractor import FeatureExtractor, normalize


class Model:
    """Prepares images in any thread, and computes the features of many at once in one.

    Args:
        extractor: of `icre.inference.galleries.open_with_model`.
    """

    def __init__(self, extractor: FeatureExtractor):
        self.extractor = extractor
        self._pipeline = build_pipeline(extractor.cfg, is_train=False, count=1)

    def prepare(self, image: Image.Image, modality: int) -> torch.Tensor:
        """An image as the model takes it: small, whatever the size of the image."""
        return self._pipeline(0, image, modality, None)["images"]

    def features(self, images: Sequence[torch.Tensor], modalities: Sequence[int]) -> np.ndarray:
        """(N, D) float32 unit vectors of N prepared images.

        Raises:
            UserError: the model's weights give no vectors.
        """
        one = self.extractor
        batch = {"images": torch.stack(list(images)), "modalities": torch.as_tensor(modalities)}
        flip = one.cfg.TEST.FLIP.ENABLED
        ((_, features),) = extract_features(one.model, [batch], one.device, flip)
        return normalize(features.float().cpu().numpy())

    def warm(self, sizes: Sequence[int]) -> None:
        """Compute batches of these sizes once: what is set up at the first call is then done."""
        image = self.prepare(Image.new("RGB", (64, 128)), 0)
        for size in sizes:
            self.features([image] * size, [0] * size)
