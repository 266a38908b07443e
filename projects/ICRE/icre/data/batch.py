"""From a worker's batch to the batch that a model takes."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from icre.data.augment import apply, second_views

Batch = dict[str, Any]


def to_device(
    batch: Batch, device: torch.device, memory_format: torch.memory_format = torch.contiguous_format
) -> Batch:
    """Move a batch to `device` and finish its images; a finished batch there is left as it is.

    Workers may hand over 8-bit images (B, H, W, 3) and, in `augment`, what to do to each
    (`icre.data.augment`): both are applied on the device.

    Args:
        batch: of a loader. `modalities` stay where they are: the two-stream backbone sorts the
            images by them on the CPU.
        device: of the model.
        memory_format: of the images.

    Returns:
        The same keys without `augment`; `images` are (B, 3, H, W) float32 in 0..255. With
        INPUT.VIEWS the second views are behind the others.
    """
    moved = {
        key: value.to(device, non_blocking=True)
        if isinstance(value, torch.Tensor) and key != "modalities"
        else value
        for key, value in batch.items()
    }
    host_rows = batch.get("augment")
    if host_rows is not None and host_rows.dim() == 3:
        moved, host_rows = _two_views(moved, host_rows)
    rows, images = moved.pop("augment", None), moved["images"]
    if rows is not None:
        images = apply(images, rows, host_rows)
    elif images.dtype == torch.uint8:
        images = images.permute(0, 3, 1, 2).float()
    return {**moved, "images": images.contiguous(memory_format=memory_format)}


def _two_views(batch: Batch, host_rows: torch.Tensor) -> tuple[Batch, torch.Tensor]:
    """Add the second view of each image that has one behind a batch of B images (INPUT.VIEWS).

    Args:
        batch: moved, with `augment` (B, 2, R).
        host_rows: the same on the CPU.

    Returns:
        Every entry with the rows of the second views behind it, and such rows on the CPU.
    """
    again = second_views(host_rows)
    on_device = again.to(batch["images"].device, non_blocking=True)
    rows = batch["augment"]
    more: Batch = {"augment": torch.cat([rows[:, 0], rows[on_device, 1]])}
    for key, value in batch.items():
        if key == "augment":
            continue
        if isinstance(value, torch.Tensor):
            index = on_device if value.device == on_device.device else again
            more[key] = torch.cat([value, value[index]])
        else:
            more[key] = [*value, *(value[row] for row in again.tolist())]
    return more, torch.cat([host_rows[:, 0], host_rows[again, 1]])


class DeviceLoader:
    """A DataLoader whose batches are on a device and ready for a model, as fast-reid's are.

    Args:
        loader: of this project's data sets or fast-reid's.
        device, memory_format: see `to_device`.
    """

    def __init__(
        self,
        loader: DataLoader,
        device: torch.device,
        memory_format: torch.memory_format = torch.contiguous_format,
    ):
        self.loader, self.device, self.memory_format = loader, device, memory_format

    @property
    def dataset(self) -> Dataset:
        """What is loaded."""
        return self.loader.dataset

    @property
    def batch_sampler(self) -> Any:
        """Gives the indices of each batch."""
        return self.loader.batch_sampler

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        # The workers start here and not with the first batch, so that their faults show at once.
        return self._ready(iter(self.loader))

    def _ready(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield to_device(batch, self.device, self.memory_format)
