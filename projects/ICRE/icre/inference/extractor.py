"""A trained model as a function from images to feature vectors."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.config import load_config
from icre.evaluation.extraction import extract_features
from icre.inference.batches import ImageBatches
from icre.modeling.build import build_model
from icre.runs.checkpoint import SafeCheckpointer
from icre.utils.device import resolve_device
from icre.utils.errors import UserError
from icre.utils.files import sha256_of
from icre.utils.yaml import parse_yaml


class FeatureExtractor:
    """A model with its weights, in evaluation mode on its device.

    Args:
        cfg: as `read_config` returns it.
        weights: a checkpoint of the model.
        source: name of `icre.runs.public.SOURCES` if a public code wrote it.
        unit: L2-normalise the features.

    Attributes:
        model: batch -> features.
        weights: absolute path of the checkpoint.
        regdb_split: the split of RegDB that was trained on; None if none or unknown.

    Raises:
        UserError: the checkpoint is missing, damaged or of another model.
    """

    def __init__(self, cfg: CfgNode, weights: str | Path, source: str = "", unit: bool = True):
        self.cfg, self.unit = cfg, unit
        self.device = resolve_device(cfg.MODEL.DEVICE)
        self.model = build_model(cfg).eval()
        checkpoint = SafeCheckpointer(self.model).load(
            str(weights), checkpointables=[], classifier=False, source=source
        )
        self.weights = Path(weights).resolve()
        self.regdb_split: int | None = checkpoint.get("regdb_split")
        self._training_config: str = checkpoint.get("config", "")

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the checkpoint file."""
        return sha256_of(self.weights)

    @property
    def fingerprint(self) -> str:
        """Checksum of everything that the features of an image depend on besides the image."""
        model = self.cfg.MODEL.clone()
        model.defrost()
        model.DEVICE = ""
        parts = [self.sha256, model.dump(), self.cfg.INPUT.dump(), self.cfg.TEST.FLIP.dump()]
        parts += [] if self.unit else ["as the model gives them"]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def saw_validation(self) -> bool:
        """Whether DATASETS.VALIDATION's held-out identities were, or may have been, trained on.

        Checkpoints that this project did not write do not say.
        """
        config = parse_yaml(self._training_config, "the checkpoint's config") or {}
        return not config.get("DATASETS", {}).get("VALIDATION", False)

    def features(
        self, images: Sequence[str | Image.Image], modalities: Sequence[int]
    ) -> np.ndarray:
        """Features of at least one image.

        Args:
            images: N paths, or images in memory.
            modalities: N integers of `icre.modality`.

        Returns:
            (N, D) float32, unit vectors unless `unit` is False.
        """
        return np.concatenate(list(self.batches(images, modalities)))

    def batches(
        self, images: Sequence[str | Image.Image], modalities: Sequence[int]
    ) -> Iterator[np.ndarray]:
        """Like `features`, but yields (B, D) as soon as a batch is computed."""
        batches = ImageBatches(self.cfg, images, modalities)
        flip = self.cfg.TEST.FLIP.ENABLED
        for _, features in extract_features(self.model, batches, self.device, flip):
            found = features.float().cpu().numpy()
            yield normalize(found) if self.unit else found


def normalize(features: np.ndarray) -> np.ndarray:
    """L2-normalise the rows of (N, D); a UserError if that is impossible."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    if not (np.isfinite(length).all() and (length > 0).all()):
        raise UserError(
            "the model's features hold NaN, infinity or zero vectors: its weights are "
            "damaged, or it was never trained"
        )
    return features / length


def read_config(
    config_file: str | Path = "", *options: str, text: str = "", trust_imports: bool = False
) -> CfgNode:
    """Load the config of a checkpoint's model, for which no pretrained weights are needed.

    Args:
        config_file, options, text, trust_imports: as of `load_config`.
    """
    options = (*options, "MODEL.BACKBONE.PRETRAIN", "False")
    return load_config(config_file, options, text, trust_imports)
