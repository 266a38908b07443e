"""Examining a data set: every fault of it, where the loader would stop at the first."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from icre.data.image import find_faults
from icre.datasets.base import Part, VisibleInfraredSet
from icre.datasets.doctor.report import Report, Seen, count
from icre.datasets.llcm import LLCM
from icre.datasets.regdb import RegDB
from icre.datasets.split_list import missing_files
from icre.datasets.sysu import CAMERA_MODALITY, SYSUMM01
from icre.datasets.tree import Item, read_ids
from icre.modality import VISIBLE
from icre.utils.errors import UserError

SETS: dict[str, type[VisibleInfraredSet]] = {data.layout: data for data in (SYSUMM01, RegDB, LLCM)}
GALLERY_CAMERAS = [camera for camera, m in CAMERA_MODALITY.items() if m == VISIBLE]
PermutationReader = Callable[[Path], Mapping[tuple[int, int], np.ndarray]]


def find_folder(layout: str, root: Path) -> Path:
    """The data set's own folder, given it or its parent.

    Raises:
        UserError: there is none, or `root` could be either.
    """
    data = SETS[layout]
    if not root.is_dir():
        raise UserError(f"folder {root} is missing: {data.origin}")
    holds = any((root / name).is_dir() for name in data.train_folders + data.test_folders)
    is_own = holds or root.absolute().name == data.dataset_dir
    below = root / data.dataset_dir
    if is_own and below.is_dir():
        raise UserError(f"{root} could be the data set itself, but holds {below} too: name one")
    if not (is_own or below.is_dir()):
        raise UserError(f"{root} is neither {data.dataset_dir} nor its parent: {data.origin}")
    return root if is_own else below


def examine(
    layout: str,
    folder: Path,
    read_permutation: PermutationReader | None = None,
    progress: bool = True,
) -> Report:
    """Count, compare and decode all that the split files of a data set list.

    Args:
        layout: key of `SETS`.
        folder: the data set's own folder, from `find_folder`.
        read_permutation: reads SYSU-MM01's rand_perm_cam.mat to {(pid, camid): (trials, images)};
            without it that file is not looked at.
        progress: show a progress bar.
    """
    report, data = Report(layout, folder), SETS[layout]
    if folder.absolute().name != data.dataset_dir:
        report.errors.append(
            f"{folder} must be called {data.dataset_dir}, which is what training looks for below "
            "DATASETS.ROOT: rename it, or link to it"
        )
    paths: dict[str, None] = {}
    for split in data.splits:
        items = _read_split(report, data, split)
        paths |= dict.fromkeys(item[0] for listed in items.values() for item in listed)
    missing = missing_files(paths)
    report.errors += [f"{path}: no such file" for path in missing]
    report.images = len(paths) - len(missing)
    faults = find_faults(set(paths) - set(missing), progress)
    report.errors += [f"{path}: {reason}" for path, reason in faults]
    if layout == "sysu" and read_permutation is not None:
        _compare_permutation(report, read_permutation)
    # Ten splits may say the same thing ten times.
    report.errors = list(dict.fromkeys(report.errors))
    report.warnings = list(dict.fromkeys(report.warnings))
    return report


def _read_split(
    report: Report, data: type[VisibleInfraredSet], split: int | None
) -> dict[str, list[Item]]:
    """{role: images} of a split, with its rows and findings added to the report."""
    items: dict[str, list[Item]] = {}
    complete = True
    for part in data.parts(report.folder, split):
        try:
            found = part.read()
        except UserError as error:
            report.errors.append(str(error))
            complete = False
            continue
        items.setdefault(part.role, []).extend(found)
        report.warnings += _absent_identities(part, found)
    if complete:
        try:
            data.check(report.folder, items)
        except UserError as error:
            report.errors.append(str(error) if split is None else f"split {split}: {error}")
    seen = [
        Seen(role, data.modality_below(report.folder, path), camera, pid)
        for role, listed in items.items()
        for path, pid, camera in listed
    ]
    report.rows += count(data.layout, split, seen)
    return items


def _absent_identities(part: Part, found: list[Item]) -> list[str]:
    if part.ids is None:
        return []
    absent = sorted(set(read_ids(part.ids)) - {pid for _, pid, _ in found})
    return [f"{part.ids} lists identity {pid}, which has no image" for pid in absent]


def _compare_permutation(report: Report, read_permutation: PermutationReader) -> None:
    """Every place of the official draw must be an image, or its evaluation would stop."""
    file = report.folder / "exp" / "rand_perm_cam.mat"
    if not file.is_file():
        report.warnings.append(
            f"{file} is missing: it comes with the SYSU-MM01 authors' evaluation code, not with "
            "the images; without it only the seeded draw can be scored"
        )
        return
    try:
        permutation = read_permutation(file)
        test = next(part for part in SYSUMM01.parts(report.folder) if part.role == "test")
        items = test.read()
    except UserError as error:
        report.errors.append(str(error))
        return
    counts = Counter((pid, camera) for _, pid, camera in items)
    pids = {pid for pid, _ in counts}
    # As in scoring, the file may leave out an infrared camera: it never stands in the gallery.
    cameras = {camera for _, camera in permutation} | set(GALLERY_CAMERAS)
    drawn = {key for key in permutation if key[0] in pids}
    for pid, camera in sorted(drawn | {key for key in counts if key[1] in cameras}):
        places = permutation[pid, camera].shape[1] if (pid, camera) in permutation else 0
        if places != counts[pid, camera]:
            report.errors.append(
                f"{report.folder / f'cam{camera}' / f'{pid:04d}'} holds {counts[pid, camera]} "
                f"images, but {file.name} draws from {places}"
            )
