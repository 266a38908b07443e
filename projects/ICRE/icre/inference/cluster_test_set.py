"""Features of a test set by the machines of a Ray cluster."""

from pathlib import Path

import numpy as np
import torch

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.cluster.connect import Cluster
from icre.data.loader import modalities_of, require_modalities
from icre.datasets import load_dataset
from icre.evaluation.features import FeatureSet
from icre.gallery.table import ImageTable
from icre.inference.extractor import FeatureExtractor
from icre.inference.galleries import check_shard_size
from icre.inference.ray_features import ClusterFeatures
from icre.inference.test_set import collector_of
from icre.runs.checkpoint import read_checkpoint
from icre.runs.resume import check_split
from icre.utils.lock import locked


def extract_on_cluster(
    cfg: CfgNode,
    weights: str,
    out: Path,
    cluster: Cluster,
    workers: int | None = None,
    shard_size: int = 1024,
) -> FeatureSet:
    """As `extract_test_set`, and writes the features to a file.

    Finished shards are kept in the folder `<out>.partial` until the file is written, so that a
    second call goes on.

    Args:
        cfg, weights: of the model.
        out: the file.
        cluster, workers, shard_size: as of `ClusterFeatures`.

    Raises:
        UserError: as `extract_test_set`; an image cannot be read.
    """
    check_shard_size(shard_size)
    check_split(cfg, read_checkpoint(weights), weights)
    data = load_dataset(cfg, cfg.DATASETS.TESTS[0], validation=cfg.TEST.SPLIT == "val")
    items = data.query + data.gallery
    require_modalities(cfg, data, items)
    paths, pids, camids = map(list, zip(*items))
    modalities, unknown = np.array(modalities_of(data, items)), [""] * len(items)
    images = ImageTable(paths, modalities, unknown, unknown)
    device, here = cfg.MODEL.DEVICE, cfg.clone()
    here.defrost()
    here.MODEL.DEVICE = "auto"  # of this machine; the workers have the GPUs
    extractor = FeatureExtractor(here, weights, unit=False)
    folder = out.parent / f"{out.name}.partial"
    with locked(folder, "--out"):
        staged = ClusterFeatures(
            folder, images, extractor, shard_size, cluster=cluster, device=device, workers=workers
        )
        staged.compute(skip_corrupt=False)
        collector = collector_of(cfg, data)
        columns = {"targets": pids, "camids": camids, "modalities": modalities}
        collector.process(
            {name: torch.as_tensor(column) for name, column in columns.items()}
            | {"img_paths": paths},
            torch.from_numpy(np.concatenate(list(staged.blocks()))),
        )
        collector.evaluate()
        features = collector.features
        assert features is not None  # in a process without ranks
        features.save(out)
        for shard in staged.shards:
            shard.file.unlink()
    return features
