"""A trained model as a function from images to unit vectors."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.data.loader import build_test_loader
from icre.engine.checkpoint import SafeCheckpointer
from icre.engine.setup import load_config, resolve_device
from icre.engine.trainer import Trainer
from icre.evaluation.extraction import run_inference
from icre.gallery.images import ImageTable
from icre.gallery.shards import Shard, ShardWriter, unit
from icre.gallery.store import ModelStamp, sha256_of


@dataclass(frozen=True)
class _TestImages:
    """A data set as `build_test_loader` asks for one."""

    query: tuple[tuple[str, int, int], ...]
    modality: dict[str, int]
    gallery: tuple = ()

    def modality_of(self, path: str) -> int:
        """What was said of the image."""
        return self.modality[path]


class Embedder:
    """A model with its weights, on its device.

    Args:
        cfg: as `read_config` returns it.
        weights: a checkpoint of it.

    Raises:
        UserError: the checkpoint is missing, damaged or of another model.
    """

    def __init__(self, cfg: CfgNode, weights: str | Path):
        self.cfg = cfg
        self.model = Trainer.build_model(cfg)
        self.checkpoint = SafeCheckpointer(self.model).load(str(weights), checkpointables=[])
        self.stamp = ModelStamp(str(Path(weights).resolve()), sha256_of(weights), cfg.dump())

    @property
    def key(self) -> str:
        """Changes with all that features depend on besides the image, and with nothing else."""
        model = self.cfg.MODEL.clone()
        model.defrost()
        model.DEVICE = ""
        parts = self.stamp.sha256, model.dump(), self.cfg.INPUT.dump(), self.cfg.TEST.FLIP.dump()
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    @property
    def saw_validation(self) -> bool:
        """Whether the held-out identities of DATASETS.VALIDATION were trained on, or may have been.

        Checkpoints that are not this project's do not say.
        """
        config = yaml.safe_load(self.checkpoint.get("config", "")) or {}
        return not config.get("DATASETS", {}).get("VALIDATION", False)

    def fill(self, images: ImageTable, shards: Sequence[Shard], faults: dict[int, str]) -> None:
        """Compute and save the features of these shards of `images`, without the faulty rows."""
        rows = [row for shard in shards for row in shard.rows if row not in faults]
        self._run(images.take(rows), ShardWriter(shards, faults))

    def features(self, images: ImageTable) -> np.ndarray:
        """(N, D) float32 unit vectors of N images."""
        collector = _Collector()
        self._run(images, collector)
        return np.concatenate(collector.parts)

    def features_of(self, batches: Iterable[dict]) -> np.ndarray:
        """(N, D) float32 unit vectors of at least one batch, as a test loader gives them."""
        collector = _Collector()
        self._infer(batches, collector)
        return np.concatenate(collector.parts)

    def _run(self, images: ImageTable, evaluator) -> None:
        data = _TestImages(
            tuple((path, 0, 0) for path in images.paths),
            dict(zip(images.paths, images.modalities.tolist())),
        )
        if not len(images):
            evaluator.reset()
            return
        self._infer(build_test_loader(self.cfg, data), evaluator)

    def _infer(self, batches: Iterable[dict], evaluator) -> None:
        device = resolve_device(self.cfg.MODEL.DEVICE)
        run_inference(self.model, batches, evaluator, device, self.cfg.TEST.FLIP.ENABLED)


class _Collector:
    """Keeps all features in memory; fast-reid's evaluator interface."""

    def reset(self) -> None:
        """Forget what was kept."""
        self.parts: list[np.ndarray] = []

    def process(self, inputs: dict, outputs: torch.Tensor) -> None:
        """Keep a batch's features (B, D), as unit vectors."""
        self.parts.append(unit(outputs.float().cpu().numpy()))

    def evaluate(self) -> dict:
        """Nothing to report."""
        return {}


def read_config(config_file: str | Path, *options: str) -> CfgNode:
    """A config for use with a checkpoint of its model: no pretrained weights are looked for."""
    return load_config(str(config_file), [*options, "MODEL.BACKBONE.PRETRAIN", "False"])
