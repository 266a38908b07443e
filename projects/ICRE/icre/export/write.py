"""Writing a model as ONNX or TorchScript files that were compared with PyTorch."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import icre.compat  # noqa: F401
from icre.compat import is_two_stream

from fastreid.config import CfgNode

from icre import __version__
from icre.evaluation.extraction import extract_features
from icre.export.formats import FORMATS, Metadata, Runner
from icre.export.graph import InferenceGraph
from icre.modality import INFRARED, NAMES, VISIBLE
from icre.utils.errors import UserError
from icre.utils.files import replaced

TOLERANCE = 1e-4  # of any component of a unit vector
BATCHES = (1, 7)  # sizes of the batches of the comparison
MODALITIES = {"visible": ("visible",), "infrared": ("infrared",), "both": NAMES}


def check_request(
    folder: Path, format_name: str = "onnx", modality: str | None = None, single: bool = False
) -> None:
    """Find what would stop an export before its model is built; makes the folder.

    Args:
        folder, format_name, modality, single: see `export_all`.

    Raises:
        UserError: unknown names, missing packages, or a folder that cannot be written.
    """
    for option, value, known in (
        ("--format", format_name, FORMATS),
        ("--modality", modality or "both", MODALITIES),
    ):
        if value not in known:
            raise UserError(f"{option} {value}: unknown; known: {', '.join(known)}")
    if single and modality not in (None, "both"):
        raise UserError(f"--single takes every modality: leave out --modality {modality}")
    FORMATS[format_name].require()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error}") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {folder}: no permission")


def export_all(
    model: nn.Module,
    cfg: CfgNode,
    folder: Path,
    format_name: str = "onnx",
    modality: str | None = None,
    single: bool = False,
    origin: Mapping[str, str] | None = None,
) -> Iterator[tuple[Path, float]]:
    """Export a model: one file per modality, or one for a model without stems per modality.

    Args:
        model, cfg, folder, format_name, origin: see `export`.
        modality: key of MODALITIES; None: both.
        single: one file that takes each image's modality as a second input.

    Yields:
        What `export` returns.

    Raises:
        UserError: as `export` and `check_request` do, or the model has one stem for everything.
    """
    check_request(folder, format_name, modality, single)
    two_stream = is_two_stream(type(model))
    if (modality or single) and not two_stream:
        raise UserError(
            f"{cfg.MODEL.META_ARCHITECTURE} has one stem for every modality: "
            "leave out --modality and --single"
        )
    stems = MODALITIES[modality or "both"] if two_stream and not single else (None,)
    for stem in stems:
        yield export(model, cfg, folder, format_name, stem, origin)


def export(
    model: nn.Module,
    cfg: CfgNode,
    folder: Path,
    format_name: str = "onnx",
    modality: str | None = None,
    origin: Mapping[str, str] | None = None,
) -> tuple[Path, float]:
    """Write one file, run it, compare it with PyTorch, and keep it only if they agree.

    Args:
        model: in evaluation mode, on the CPU.
        cfg: of the model.
        folder: of `<modality>.onnx` or `model.onnx` (`.pt` for TorchScript).
        format_name: key of FORMATS.
        modality: whose stem to keep; None: both, selected by a second input `modality` (B,) int64;
            a model without stems per modality takes None and has no such input.
        origin: metadata of the checkpoint: `weights_sha256` and `regdb_split`.

    Returns:
        The file, and the largest difference of any component of the unit vectors.

    Raises:
        UserError: the file differs by more than TOLERANCE, or cannot be written.
    """
    chosen = FORMATS[format_name]
    path = folder / f"{modality or 'model'}{chosen.suffix}"
    example = _images(cfg, 2), torch.tensor([VISIBLE, INFRARED])
    inputs = 1 + (is_two_stream(type(model)) and modality is None)
    graph = InferenceGraph(model, modality, cfg.TEST.FLIP.ENABLED)
    about = metadata(model, cfg, modality, origin)
    with replaced(path) as temporary, _quiet(), torch.no_grad():
        chosen.write(graph, example[:inputs], temporary, about)
        run, _ = chosen.read(temporary)
        difference = compare(model, cfg, run, modality)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{path} was not written: it differs from PyTorch by {difference:.1e}, "
                f"more than {TOLERANCE:g}"
            )
    return path, difference


def metadata(
    model: nn.Module, cfg: CfgNode, modality: str | None, origin: Mapping[str, str] | None = None
) -> Metadata:
    """What a program needs to know to use a file; the keys are listed in docs/export.md."""
    height, width = _image_size(cfg)
    return {
        "height": str(height),
        "width": str(width),
        "channels": "RGB",
        "layout": "NHWC uint8",
        "resize": cfg.INPUT.INTERPOLATION,
        "modality": modality or ("input" if is_two_stream(type(model)) else "none"),
        "flip": str(cfg.TEST.FLIP.ENABLED),
        "weights_sha256": "",
        "regdb_split": "",
        "config": cfg.dump(),
        "icre": __version__,
        "torch": torch.__version__,
        **(origin or {}),
    }


def compare(model: nn.Module, cfg: CfgNode, run: Runner, modality: str | None) -> float:
    """Largest difference between a file's features and those of the evaluation, over BATCHES.

    Modalities alternate if the file takes both.
    """
    inputs = 1 + (is_two_stream(type(model)) and modality is None)
    worst = 0.0
    for size in BATCHES:
        modalities = torch.arange(size) % len(NAMES)
        if modality:
            modalities = torch.full((size,), NAMES.index(modality))
        arrays = _images(cfg, size), modalities
        batch = dict(zip(("images", "modalities"), arrays))
        found = run(*(array.numpy() for array in arrays[:inputs]))
        extracted = extract_features(model, [batch], torch.device("cpu"), cfg.TEST.FLIP.ENABLED)
        expected = torch.cat([features for _, features in extracted]).numpy()
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        worst = float(np.maximum(worst, np.abs(found - expected).max()))  # keeps NaN
    return worst


def _images(cfg: CfgNode, count: int) -> Tensor:
    """(count, H, W, 3) uint8 blurred noise, whose features differ as those of photographs do."""
    generator = torch.Generator().manual_seed(count)
    coarse = torch.rand(count, 3, 8, 4, generator=generator)
    images = nn.functional.interpolate(coarse, _image_size(cfg), mode="bilinear")
    return (255 * images).byte().permute(0, 2, 3, 1).contiguous()


def _image_size(cfg: CfgNode) -> tuple[int, int]:
    if len(cfg.INPUT.SIZE_TEST) != 2 or cfg.INPUT.CROP.ENABLED:
        raise UserError(
            "INPUT.SIZE_TEST must be [height, width] and INPUT.CROP.ENABLED False: a "
            "file takes images that were resized to one size, without a crop"
        )
    return tuple(cfg.INPUT.SIZE_TEST)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' warnings (deprecations, tracing of shapes)."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
