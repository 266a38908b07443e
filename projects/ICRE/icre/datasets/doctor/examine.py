"""Examine a data set on disk: find every fault, where loading would stop at the first."""

import itertools
from pathlib import Path

from icre.datasets.base import SETS, TEST, VisibleInfraredSet, absent_identities
from icre.datasets.doctor.report import Report, Seen, count
from icre.datasets.files import Item, missing_files
from icre.datasets.table import TRAIN, name_of, read_set
from icre.modality import NAMES
from icre.utils.errors import UserError
from icre.utils.image import find_faults


def find_folder(layout: str, root: Path) -> Path:
    """The data set's own folder, given it or its parent.

    Raises:
        UserError: unknown layout, there is no such folder, or `root` could be either.
    """
    if layout not in SETS:
        raise UserError(f"unknown data set {layout!r}; known: {', '.join(SETS)}")
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


def examine(layout: str, folder: Path, progress: bool = True) -> Report:
    """Count, compare and decode all that the split files of a data set list.

    Args:
        layout: key of `icre.datasets.base.SETS`.
        folder: the data set's own folder, from `find_folder`.
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
        errors, warnings = data.examine(folder, items.get(TEST, []))
        report.errors += errors
        report.warnings += warnings
    missing = missing_files(paths)
    report.errors += [f"{path}: no such file" for path in missing]
    report.images = len(paths) - len(missing)
    faults = find_faults(set(paths) - set(missing), progress)
    report.errors += [f"{path}: {reason}" for path, reason in faults]
    # Ten splits may give the same line ten times.
    report.errors = list(dict.fromkeys(report.errors))
    report.warnings = list(dict.fromkeys(report.warnings))
    return report


def examine_table(file: Path, progress: bool = True) -> Report:
    """Count, compare and decode all images of a table (DATASETS.TABLE).

    Args:
        file: the table.
        progress: show a progress bar.
    """
    report = Report("table", file)
    try:
        name_of(file)
        modalities, items = read_set(file)
    except UserError as error:  # of a table that is half right no count would be
        report.errors.append(str(error))
        return report
    report.images = len(modalities)
    report.errors += [
        f"{path}: {reason}" for path, reason in find_faults(set(modalities), progress)
    ]
    for role, modality in itertools.product((TRAIN, TEST), NAMES):
        if not any(modalities[path] == NAMES.index(modality) for path, *_ in items[role]):
            report.warnings.append(f"no {modality} image has split {role}")
    seen = [
        Seen(role, modalities[path], camera, pid)
        for role, listed in items.items()
        for path, pid, camera in listed
    ]
    report.rows += count({}, None, seen)
    return report


def _read_split(
    report: Report, data: type[VisibleInfraredSet], split: int | None
) -> dict[str, list[Item]]:
    """{role: images} of a split; its counts, errors and warnings are added to the report."""
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
        absent = absent_identities(part, found)
        report.errors += [absent] if absent else []
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
    report.rows += count(data.published, split, seen)
    return items
