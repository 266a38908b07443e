"""Spec files: the rows (config and overrides) and seeds of an ablation."""

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import icre.compat  # noqa: F401

from fastreid.config import CfgNode

from icre.config import load_config
from icre.config.shipped import find_config
from icre.utils.errors import UserError
from icre.utils.run_folder import RunFolder
from icre.utils.yaml import read_mapping

_KEYS = {
    *("title", "config", "seeds", "protocol", "draw", "options", "reference", "rows", "sweep"),
    "cost",
}
_ROW_KEYS = {"config", "options", "seeds", "expected", "paper"}
_SWEEP_KEYS = {"key", "values"}


@dataclass(frozen=True)
class PlannedRun:
    """One training: a row under one seed.

    Attributes:
        row: the row's name.
        config: config file.
        options: KEY VALUE words for the command line, with SEED and OUTPUT_DIR.
        seed: SEED.
        files: of its OUTPUT_DIR.
        cfg: the config with the options merged.
    """

    row: str
    config: str
    options: tuple[str, ...]
    seed: int
    files: RunFolder
    cfg: CfgNode


@dataclass(frozen=True)
class Spec:
    """An ablation.

    Attributes:
        title: of its table.
        runs: by row, then by seed.
        reference: the row that the others are compared with.
        protocol, draw: test protocol and gallery sampling of the table; None if it has no sampling.
        sweep: (key, values) if the rows are the values of one key, else None.
        expected: row -> what it should reach, as text, where the file says it.
        paper: row -> what the method's paper reports on SYSU-MM01, as text, where the file says it.
        cost: whether the table has parameters, multiply-accumulates and images per second.
    """

    title: str
    runs: tuple[PlannedRun, ...]
    reference: str
    protocol: str
    draw: str | None
    sweep: tuple[str, tuple[Any, ...]] | None
    expected: dict[str, str]
    paper: dict[str, str] = field(default_factory=dict)
    cost: bool = False

    @property
    def rows(self) -> dict[str, list[PlannedRun]]:
        """The runs by row, in the file's order."""
        groups = itertools.groupby(self.runs, key=lambda run: run.row)
        return {name: list(runs) for name, runs in groups}


def read_spec(
    path: str | Path,
    out: Path,
    options: list[str] = (),
    seeds: list[int] | None = None,
    config: str | None = None,
    reference: str | None = None,
) -> Spec:
    """Read a spec and build the config of every run, so that errors show before the first run.

    Args:
        path: YAML; `configs/ablations/README.md` describes the keys.
        out: folder for the runs' folders.
        options: KEY VALUE words that override the file's, for every run.
        seeds: instead of the file's and its rows'.
        config: instead of the file's, for rows that name none of their own.
        reference: instead of the file's.

    Raises:
        UserError: the file, a row or a key is wrong; the message names it.
    """
    content = _load(find_config(path))
    if config:
        content["config"] = config
    rows, sweep = _rows(path, content)
    reference = str(reference or content.get("reference", next(iter(rows))))
    if reference not in rows:
        raise UserError(f"{path}: reference {reference!r} is no row; rows: {', '.join(rows)}")
    runs = tuple(
        _run(path, content, name, row or {}, seed, out, options)
        for name, row in rows.items()
        for seed in _seeds(path, content, name, row or {}, seeds)
    )
    folders = {str(run.files.path).casefold() for run in runs}
    if len(folders) < len(runs):
        raise UserError(f"{path}: two rows have the same letters and digits in their names")
    return Spec(
        str(content.get("title", Path(path).stem)),
        runs,
        reference,
        content.get("protocol", "sysu-all-single"),
        content.get("draw", "official"),
        sweep,
        *(
            {name: str(row[key]) for name, row in rows.items() if row and key in row}
            for key in ("expected", "paper")
        ),
        cost=_flag(path, content, "cost"),
    )


def _flag(path: str | Path, content: dict, key: str) -> bool:
    value = content.get(key, False)
    if not isinstance(value, bool):
        raise UserError(f"{path}: {key} is {value!r}; it must be true or false")
    return value


def _load(path: Path) -> dict:
    if not path.exists():
        raise UserError(f"{path} is missing: name a spec: `icre list configs` has those shipped")
    content = read_mapping(path, f"a spec is a mapping of {', '.join(sorted(_KEYS))}")
    _require_known(str(path), content, _KEYS)
    if ("rows" in content) == ("sweep" in content):
        raise UserError(f"{path}: write either rows or sweep")
    return content


def _rows(path: str | Path, content: dict) -> tuple[dict[str, dict], tuple | None]:
    """{name: its keys} and the sweep."""
    if "rows" in content:
        rows = content["rows"]
        if not (isinstance(rows, dict) and rows):
            raise UserError(f"{path}: rows must map names to config and options")
        for name, row in rows.items():
            _require_mapping(f"{path}: row {name!r}", row or {})
        return {str(name): row for name, row in rows.items()}, None
    sweep = content["sweep"]
    if not (isinstance(sweep, dict) and set(sweep) >= _SWEEP_KEYS and sweep["values"]):
        raise UserError(f"{path}: sweep needs key and values")
    _require_known(f"{path}: sweep", sweep, _SWEEP_KEYS)
    if not (isinstance(sweep["key"], str) and isinstance(sweep["values"], list)):
        raise UserError(f"{path}: sweep needs the name of a key, and a list of values")
    rows = {str(value): {"options": {sweep["key"]: value}} for value in sweep["values"]}
    if len(rows) < len(sweep["values"]):
        raise UserError(f"{path}: sweep has a value twice: {sweep['values']}")
    return rows, (sweep["key"], tuple(sweep["values"]))


def _seeds(
    path: str | Path, content: dict, name: str, row: dict, override: list[int] | None
) -> list[int]:
    """Seeds of a row: the command line's, else its own, else the file's."""
    where = f"{path}: row {name!r}: seeds" if "seeds" in row else f"{path}: seeds"
    seeds = row.get("seeds", content.get("seeds", [0])) if override is None else override
    valid = isinstance(seeds, list) and seeds and all(type(seed) is int for seed in seeds)
    if not valid or len(set(seeds)) < len(seeds):
        raise UserError(f"{where} must be a list of different integers, got {seeds}")
    return seeds


def _run(
    path: str | Path, content: dict, name: str, row: dict, seed: int, out: Path, options: list[str]
) -> PlannedRun:
    where = f"{path}: row {name!r}"
    _require_known(where, row, _ROW_KEYS)
    config = row.get("config", content.get("config"))
    if not config:
        raise UserError(f"{where} has no config, and the spec none for all rows")
    if not isinstance(config, (str, Path)):
        raise UserError(f"{where}: config is {config!r}; it must be the path of a file")
    for options_of in (content, row):
        _require_mapping(f"{where}: options", options_of.get("options") or {})
    folder = out / _slug(name) / f"seed_{seed}"
    merged = {**(content.get("options") or {}), **(row.get("options") or {})}
    words = [word for key, value in merged.items() for word in (key, _word(value))]
    words += [*options, "SEED", str(seed), "OUTPUT_DIR", str(folder)]
    try:
        cfg = load_config(config, list(words))
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    if len(cfg.DATASETS.TESTS) != 1 or cfg.TEST.SPLIT != "test":
        raise UserError(
            f"{where}: a row is compared by one test set: DATASETS.TESTS {cfg.DATASETS.TESTS}, "
            f"TEST.SPLIT {cfg.TEST.SPLIT}"
        )
    return PlannedRun(name, config, tuple(words), seed, RunFolder(folder), cfg)


def _require_mapping(where: str, found: Any) -> None:
    if not isinstance(found, dict):
        raise UserError(f"{where} must be a mapping, not {found!r}")


def _require_known(where: str, found: dict, known: set[str]) -> None:
    unknown = set(found) - known
    if unknown:
        raise UserError(
            f"{where}: unknown key {min(map(str, unknown))!r}; known: {', '.join(sorted(known))}"
        )


def _word(value: Any) -> str:
    """A YAML value as a word of the command line, which yacs evaluates as Python."""
    return repr(tuple(value)) if isinstance(value, list) else str(value)


def _slug(name: str) -> str:
    """A name as that of a folder: letters, digits and dots between them, at most 100."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", name)[:100].strip("_.") or "row"
