"""Formats of exported files: writing them, and running them in place of the model.

Shapes: B images of the model's H x W, D dimensions of the feature.
"""

import importlib.util
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from icre.modality import NAMES
from icre.utils.errors import UserError

OPSET = 20
INPUTS = ("images", "modality")

# images (B, H, W, 3) uint8 and, for a file with both stems, modality (B,) int64 -> (B, D) float32
Runner = Callable[..., np.ndarray]
Metadata = dict[str, str]


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        suffix: of the files.
        needs: packages for writing and reading.
        write: (graph, example inputs, path, metadata) -> None.
        read: path -> (function that runs the graph, metadata).
    """

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, tuple[Tensor, ...], Path, Metadata], None]
    read: Callable[[Path], tuple[Runner, Metadata]]

    def require(self) -> None:
        """Raise UserError if a package is missing."""
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"{self.suffix} files need more packages: pip install {' '.join(missing)}"
            )


class ExportedModel(nn.Module):
    """Exported files that take the place of a model in evaluation mode; they compute on the CPU.

    Args:
        path: a file; or a folder, of which the visible and infrared files are used, else the model
            file; ONNX is preferred.

    Attributes:
        files: that are used.
        metadata: of the first file; docs/export.md lists the keys.

    Raises:
        UserError: there is no such file, or it was not made by tools/export.py.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.files = _find_files(Path(path))
        opened = [_open(file) for file in self.files]
        self.metadata = opened[0][1]
        self.runners = {metadata["modality"]: run for run, metadata in opened}

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return int(self.metadata["height"]), int(self.metadata["width"])

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Features of a batch of a test loader.

        Args:
            batch: `images` (B, 3, H, W) in 0..255, whole numbers as resized 8-bit images are;
                `modalities` (B,).

        Returns:
            (B, D) unit vectors.
        """
        images = batch["images"].byte().permute(0, 2, 3, 1).contiguous().numpy()
        modalities = batch["modalities"].long().numpy()
        if "none" in self.runners:
            return torch.from_numpy(self.runners["none"](images))
        if "input" in self.runners:
            return torch.from_numpy(self.runners["input"](images, modalities))
        features: dict[int, np.ndarray] = {}
        for modality in np.unique(modalities):
            rows = np.flatnonzero(modalities == modality)
            features.update(zip(rows.tolist(), self._runner(NAMES[modality])(images[rows])))
        return torch.from_numpy(np.stack([features[row] for row in range(len(images))]))

    def _runner(self, modality: str) -> Runner:
        if modality not in self.runners:
            raise UserError(
                f"{self.files[0]} takes {self.metadata['modality']} images, and there are "
                f"{modality} ones: name the folder that holds the files of both"
            )
        return self.runners[modality]


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for stems in (NAMES, ("model",)):
        for one in FORMATS.values():
            files = [path / f"{stem}{one.suffix}" for stem in stems]
            if all(file.is_file() for file in files):
                return files
    suffixes = " or ".join(one.suffix for one in FORMATS.values())
    raise UserError(
        f"{path} is no exported model: name a file of tools/export.py, or a folder with "
        f"{' and '.join(NAMES)}, or model, as {suffixes}"
    )


def _open(path: Path) -> tuple[Runner, Metadata]:
    known = {one.suffix: one for one in FORMATS.values()}
    if path.suffix not in known:
        raise UserError(f"{path} is no exported model: its name ends in none of {', '.join(known)}")
    known[path.suffix].require()
    try:
        run, metadata = known[path.suffix].read(path)
    except Exception as error:  # each runtime has exceptions of its own
        reason = str(error).splitlines()[0][:150]
        raise UserError(f"{path} cannot be read: {reason}") from None
    if not {"height", "width", "modality"} <= set(metadata):
        raise UserError(f"{path} says no size and modality: make it with tools/export.py")
    return run, metadata


def _write_onnx(
    graph: nn.Module, example: tuple[Tensor, ...], path: Path, metadata: Metadata
) -> None:
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        graph,
        example,
        dynamo=True,
        opset_version=OPSET,
        verbose=False,
        input_names=INPUTS[: len(example)],
        output_names=["features"],
        dynamic_shapes=tuple({0: batch} for _ in example),
    )
    program.model.metadata_props.update(metadata)
    program.save(path, external_data=False)  # weights beside the file get lost when it is moved


def _read_onnx(path: Path) -> tuple[Runner, Metadata]:
    import onnxruntime  # optional dependency

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0], metadata


def _write_torchscript(
    graph: nn.Module, example: tuple[Tensor, ...], path: Path, metadata: Metadata
) -> None:
    traced = torch.jit.trace(graph, example, check_trace=False)
    with open(path, "wb") as file:  # torch's own writer raises RuntimeError if the disk is full
        torch.jit.save(traced, file, _extra_files={"metadata.json": json.dumps(metadata)})


def _read_torchscript(path: Path) -> tuple[Runner, Metadata]:
    extra = {"metadata.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch recommends torch.export
        loaded = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    metadata = json.loads(extra["metadata.json"] or "{}")
    return lambda *arrays: loaded(*map(torch.from_numpy, arrays)).numpy(), metadata


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _read_onnx),
    "torchscript": Format(".pt", (), _write_torchscript, _read_torchscript),
}
