"""Formats of exported files: writing them, and running them in place of the model.

Shapes: B images of the model's H x W, D dimensions of the feature.
"""

import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from icre.modality import NAMES
from icre.utils.errors import UserError, first_line

OPSET = 20
MAX_BYTES = 2**31  # protobuf's limit
MAX_SIDE = 4096  # pixels
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
        is_code: whether reading a file runs what is in it.
        write: (graph, example inputs, path, metadata) -> None.
        read: path -> (function that runs the graph, metadata).
    """

    suffix: str
    needs: tuple[str, ...]
    write: Callable[[nn.Module, tuple[Tensor, ...], Path, Metadata], None]
    read: Callable[[Path], tuple[Runner, Metadata]]
    is_code: bool = False

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
        trust_torchscript: open TorchScript files, which are programs and can do what this process
            may do.

    Attributes:
        files: that are used.
        metadata: of the first file; docs/export.md lists the keys.

    Raises:
        UserError: there is no such file, it was not made by tools/export.py, or it is TorchScript
            and not trusted; while running, what it computes is no feature.
    """

    def __init__(self, path: str | Path, trust_torchscript: bool = False):
        super().__init__()
        self.files = _find_files(Path(path))
        opened = [_open(file, trust_torchscript) for file in self.files]
        self.metadata = opened[0][1]
        self.runners = {
            metadata["modality"]: _checked(run, file)
            for file, (run, metadata) in zip(self.files, opened)
        }
        for file, (_, metadata) in zip(self.files, opened):
            for key in ("height", "width", "regdb_split"):
                if metadata.get(key) != self.metadata.get(key):
                    raise UserError(f"{file} has another {key} than {self.files[0].name}")

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


def _open(path: Path, trust_torchscript: bool) -> tuple[Runner, Metadata]:
    known = {one.suffix: one for one in FORMATS.values()}
    if path.suffix not in known:
        raise UserError(f"{path} is no exported model: its name ends in none of {', '.join(known)}")
    chosen = known[path.suffix]
    if chosen.is_code and not trust_torchscript:
        raise UserError(
            f"{path} is TorchScript, a program that can read and write files: export as ONNX, or, "
            "if you made the file yourself, add --trust-torchscript"
        )
    chosen.require()
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"{size} bytes are more than {MAX_BYTES}")
        run, metadata = chosen.read(path)
    except Exception as error:  # each runtime has exceptions of its own
        raise UserError(f"{path} cannot be read: {first_line(error)[:150]}") from None
    _check_metadata(path, metadata)
    return run, metadata


def _check_metadata(path: Path, metadata: Metadata) -> None:
    valid = {
        "height": lambda text: text.isdecimal() and 0 < int(text[:9]) <= MAX_SIDE,
        "width": lambda text: text.isdecimal() and 0 < int(text[:9]) <= MAX_SIDE,
        "modality": lambda text: text in (*NAMES, "input", "none"),
        "regdb_split": lambda text: not text or text in map(str, range(1, 11)),
    }
    for key, is_valid in valid.items():
        value = metadata.get(key, "" if key == "regdb_split" else None)
        if not (type(value) is str and value.isascii() and is_valid(value)):
            raise UserError(
                f"{path} says no size and modality ({key} {value!r}): make it with tools/export.py"
            )


def _checked(run: Runner, path: Path) -> Runner:
    """A runner whose errors are one line, and whose results are features."""

    def checked(images: np.ndarray, *more: np.ndarray) -> np.ndarray:
        try:
            features = np.asarray(run(images, *more))
        except Exception as error:  # each runtime has exceptions of its own
            raise UserError(f"{path} cannot be run: {first_line(error)[:150]}") from None
        if features.ndim != 2 or len(features) != len(images) or features.dtype != np.float32:
            raise UserError(
                f"{path} computes {features.dtype} {features.shape} of {len(images)} images, not "
                "float32 features: make it with tools/export.py"
            )
        return features

    return checked


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
    import onnx  # optional dependencies
    import onnxruntime

    content = path.read_bytes()
    _check_onnx(onnx.load_model_from_string(content))
    # From bytes, the runtime knows no folder whose files it could read.
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    metadata = dict(session.get_modelmeta().custom_metadata_map)
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0], metadata


def _check_onnx(model: Any) -> None:
    """Raise ValueError if a model has tensors in other files, or operators of other libraries."""
    known = {(one.domain, one.name) for one in model.functions}
    for message in _messages(model):
        kind = message.DESCRIPTOR.name
        if kind == "TensorProto" and (message.external_data or message.data_location):
            raise ValueError(f"its tensor {message.name!r} is in another file")
        operator = (message.domain, message.op_type) if kind == "NodeProto" else ("", "")
        if operator[0] not in ("", "ai.onnx") and operator not in known:
            raise ValueError(f"operator {'.'.join(operator)} is not ONNX's")


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(one)


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
    "torchscript": Format(".pt", (), _write_torchscript, _read_torchscript, is_code=True),
}
