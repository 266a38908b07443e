"""Exported files: how each format is written, and how files are run in the place of the model.

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

# images (B, H, W, 3) uint8 and, in a file with both stems, modality (B,) int64 -> (B, D) float32
Runner = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Format:
    """How a graph is written with its metadata, and how both are read again."""

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, tuple[Tensor, ...], Path, dict[str, str]], None]
    read: Callable[[Path], tuple[Runner, dict[str, str]]]

    def require(self) -> None:
        """Raise UserError where a package is missing."""
        missing = [name for name in self.needs if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f"{self.suffix} files need more packages: pip install {' '.join(missing)}"
            )


class Exported(nn.Module):
    """Exported files in the place of a model in evaluation mode; they compute on the CPU.

    Args:
        path: a file, or a folder: its visible and infrared files, else its model file; ONNX first.

    Attributes:
        files: that are used.
        about: what the first says of itself (docs/export.md lists the keys).

    Raises:
        UserError: there is no such file, or it was not made by tools/export.py.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.files = _find_files(Path(path))
        opened = [_open(file) for file in self.files]
        self.about = opened[0][1]
        self.runners = {about["modality"]: run for run, about in opened}

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return int(self.about["height"]), int(self.about["width"])

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """`images` (B, 3, H, W) of whole numbers 0..255, `modalities` (B,) -> (B, D) unit vectors.

        Resized 8-bit images are whole numbers, so nothing is lost on the way back to 8 bits.
        """
        images = batch["images"].byte().permute(0, 2, 3, 1).contiguous().numpy()
        modalities = batch["modalities"].long().numpy()
        if "none" in self.runners:
            return torch.from_numpy(self.runners["none"](images))
        if "input" in self.runners:
            return torch.from_numpy(self.runners["input"](images, modalities))
        found: dict[int, np.ndarray] = {}
        for modality in np.unique(modalities):
            rows = np.flatnonzero(modalities == modality)
            found.update(zip(rows.tolist(), self._runner(NAMES[modality])(images[rows])))
        return torch.from_numpy(np.stack([found[row] for row in range(len(images))]))

    def _runner(self, modality: str) -> Runner:
        if modality not in self.runners:
            raise UserError(
                f"{self.files[0]} takes {self.about['modality']} images, and there are "
                f"{modality} ones: name the folder that holds the files of both"
            )
        return self.runners[modality]


def _find_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for names in (NAMES, ("model",)):
        for one in FORMATS.values():
            files = [path / f"{name}{one.suffix}" for name in names]
            if all(file.is_file() for file in files):
                return files
    suffixes = " or ".join(one.suffix for one in FORMATS.values())
    raise UserError(
        f"{path} is no exported model: name a file of tools/export.py, or a folder with "
        f"{' and '.join(NAMES)}, or model, as {suffixes}"
    )


def _open(path: Path) -> tuple[Runner, dict[str, str]]:
    known = {one.suffix: one for one in FORMATS.values()}
    if path.suffix not in known:
        raise UserError(f"{path} is no exported model: its name ends in none of {', '.join(known)}")
    known[path.suffix].require()
    try:
        run, about = known[path.suffix].read(path)
    except Exception as error:  # each runtime has kinds of its own
        reason = str(error).splitlines()[0][:150]
        raise UserError(f"{path} cannot be read: {reason}") from None
    if not {"height", "width", "modality"} <= set(about):
        raise UserError(f"{path} says no size and modality: make it with tools/export.py")
    return run, about


def _write_onnx(
    graph: nn.Module, example: tuple[Tensor, ...], path: Path, about: dict[str, str]
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
    program.model.metadata_props.update(about)
    program.save(path, external_data=False)  # weights beside the file get lost when it is moved


def _read_onnx(path: Path) -> tuple[Runner, dict[str, str]]:
    import onnxruntime  # not needed by anything else

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    about = dict(session.get_modelmeta().custom_metadata_map)
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0], about


def _write_torchscript(
    graph: nn.Module, example: tuple[Tensor, ...], path: Path, about: dict[str, str]
) -> None:
    traced = torch.jit.trace(graph, example, check_trace=False)
    with open(path, "wb") as file:  # torch's own writer ends in a RuntimeError on a full disk
        torch.jit.save(traced, file, _extra_files={"metadata.json": json.dumps(about)})


def _read_torchscript(path: Path) -> tuple[Runner, dict[str, str]]:
    extra = {"metadata.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather see torch.export
        loaded = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    about = json.loads(extra["metadata.json"] or "{}")
    return lambda *arrays: loaded(*map(torch.from_numpy, arrays)).numpy(), about


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _read_onnx),
    "torchscript": Format(".pt", (), _write_torchscript, _read_torchscript),
}
