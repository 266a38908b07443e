"""Features of images by an exported model, with onnxruntime, numpy and Pillow alone.

    python predict_onnx.py visible.onnx gallery/ --out gallery.npz
    python predict_onnx.py infrared.onnx query.jpg --match gallery.npz

Copy this file to wherever the model runs: it needs nothing else of the project. All that it has to
know of the model (image size, resizing, modality) stands in the .onnx file itself; see
docs/export.md.
"""

import argparse
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

MODALITIES = ("visible", "infrared")  # 0 and 1, as the model counts them
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")  # Pillow starts programs for some others
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
TURNS = {  # EXIF orientation -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Model:
    """An exported model.

    Args:
        path: a file that tools/export.py wrote.
        providers: onnxruntime's, such as CUDAExecutionProvider (with onnxruntime-gpu).
    """

    def __init__(self, path: str, providers: Sequence[str] = ("CPUExecutionProvider",)):
        try:
            self.session = onnxruntime.InferenceSession(path, providers=list(providers))
        except Exception as error:  # onnxruntime's kinds have no common name
            reason = str(error).splitlines()[0]
            raise ValueError(f"cannot read model {path}: {reason}") from None
        about = self.session.get_modelmeta().custom_metadata_map
        if not {"height", "width", "resize", "modality"} <= set(about):
            raise ValueError(f"{path} says no size and modality: make it with tools/export.py")
        self.size = int(about["width"]), int(about["height"])
        self.resize = Image.Resampling[about["resize"].upper()]  # bicubic, bilinear or lanczos
        self.modality = about["modality"]  # visible, infrared, input or none
        self.weights = about["weights_sha256"]

    def features(
        self, paths: Sequence[str | Path], modality: str | None = None, batch: int = 32
    ) -> np.ndarray:
        """(N, D) float32 unit vectors of N image files; their dot product is the similarity.

        Args:
            paths: the files.
            modality: of all of them; needed where the file takes it as an input.
            batch: images at once.
        """
        if self.modality in MODALITIES and modality not in (None, self.modality):
            raise ValueError(f"this file is for {self.modality} images, not {modality} ones")
        if self.modality == "input" and modality not in MODALITIES:
            raise ValueError(f"say which modality: {' or '.join(MODALITIES)}")
        parts = []
        for start in range(0, len(paths), batch):
            pixels = np.stack([self.read(path) for path in paths[start : start + batch]])
            inputs = {"images": pixels}  # (B, H, W, 3) uint8 RGB
            if self.modality == "input":
                inputs["modality"] = np.full(len(pixels), MODALITIES.index(modality), np.int64)
            parts.append(self.session.run(None, inputs)[0])
        return np.concatenate(parts)

    def read(self, path: str | Path) -> np.ndarray:
        """An image file as (H, W, 3) uint8 RGB of the model's size."""
        if not Path(path).is_file():
            raise ValueError(f"cannot read image {path}: no such file")
        try:
            with Image.open(path, formats=FORMATS) as image:
                image.load()
                turn = TURNS.get(orientation(image))
        except Exception as error:  # on a broken file Pillow raises a dozen kinds
            raise ValueError(f"cannot read image {path}: {error}") from None
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"{path} has more than 8 bits: stretch it to 0..255 first")
        if turn is not None:
            image = image.transpose(turn)
        if image.mode == "P":
            image = image.convert("RGBA")  # a palette may hold colours with transparency
        return np.asarray(image.convert("RGB").resize(self.size, self.resize))


def orientation(image: Image.Image) -> object:
    """The EXIF orientation; None where a damaged EXIF block has none that can be read."""
    try:
        return image.getexif().get(0x0112)
    except Exception:
        return None


def find_images(sources: Sequence[str]) -> list[str]:
    """Files, and all images below folders in the order of their names."""
    found = []
    for source in map(Path, sources):
        below = sorted(source.rglob("*")) if source.is_dir() else [source]
        found += [str(p) for p in below if p == source or p.suffix.lower() in SUFFIXES]
    if not found:
        raise ValueError(f"no images in {', '.join(sources)}")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Compute features, then save them or look for the nearest among saved ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="an .onnx file of tools/export.py")
    parser.add_argument("images", nargs="+", help="images and folders of images")
    parser.add_argument("--modality", choices=MODALITIES)
    parser.add_argument("--out", help="write features and paths to this .npz")
    parser.add_argument("--match", help="an .npz of --out: print the nearest images in it")
    parser.add_argument("--top", type=int, default=5, help="how many (5)")
    args = parser.parse_args(argv)
    paths = find_images(args.images)
    model = Model(args.model)
    features = model.features(paths, args.modality)
    if args.out:
        np.savez_compressed(
            args.out, features=features, paths=np.array(paths), weights=model.weights
        )
    if args.match:
        gallery, found = load_gallery(args.match, model.weights)
        show(paths, features @ gallery.T, found, args.top)
    print(f"{len(paths)} images, {features.shape[1]} dimensions", file=sys.stderr)


def load_gallery(path: str, weights: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and paths of an .npz of --out; those of another model mean nothing to this one."""
    try:
        with np.load(path) as file:
            features, paths, theirs = file["features"], file["paths"], str(file["weights"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read features {path}: {error}") from None
    if theirs != weights:
        raise ValueError(f"{path} was made with another model: make it again with --out")
    return features, paths


def show(paths: Sequence[str], similarity: np.ndarray, gallery: np.ndarray, top: int) -> None:
    """Print the best matches of each query, from (Q, G) similarities."""
    for path, row in zip(paths, similarity):
        print(path)
        for place in np.argsort(-row, kind="stable")[:top]:
            print(f"  {row[place]:.3f}  {gallery[place]}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as problem:
        sys.exit(f"error: {problem}")
