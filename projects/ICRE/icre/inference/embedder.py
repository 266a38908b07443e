"""Deprecated names of `icre.inference.extractor`."""

from icre.inference.extractor import FeatureExtractor as Embedder
from icre.inference.extractor import read_config

__all__ = ["Embedder", "read_config"]
