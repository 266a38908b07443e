"""Lists and tables of images that users write."""

import csv
import difflib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from icre.utils.errors import UserError
from icre.utils.image import is_image
from icre.utils.remote import is_remote

COLUMNS = ("path", "modality", "camera", "identity", "split", "time")
SUFFIXES = (".csv", ".tsv", ".parquet")
_SEPARATORS = ",;\t"
_SYNONYMS = {
    "pid": "identity",
    "id": "identity",
    "person": "identity",
    "label": "identity",
    "cam": "camera",
    "camid": "camera",
    "file": "path",
    "filename": "path",
    "image": "path",
}
MAX_ROWS = 20_000_000  # of a Parquet file
_LINE = 1 << 16  # bytes; longer ones are of no text file

# row of the columns that a table has, and its file and line for error messages
Row = tuple[dict[str, str], str]


def read_list(source: Path) -> Iterator[Row]:
    """Read one path or URL per line; blank lines are skipped.

    Raises:
        UserError: names the line that is no image file or no UTF-8 text.
    """
    for number, line in enumerate(_lines(source), start=1):
        path, where = line.strip(), f"{source}, line {number}"
        if path:
            yield {"path": _resolve(path, Path(), where, remote=True)}, where


def read_table(source: Path, free: bool = False) -> Iterator[Row]:
    """Read a table: a header with the column path and any other of COLUMNS, then a row per image.

    With `free` it may have further columns, whose names are not similar to those: a misspelt name
    is refused, not taken as another column.

    Cells are separated by commas, semicolons or tabs; blanks around them do not count, blank lines
    are skipped. A `.parquet` file has the columns of its own (extra `parquet`). A relative path is
    below the table's folder or, where it is no file there, below the current one. With
    `free` a path may be a URL.

    Raises:
        UserError: names the line that is no UTF-8 text, has another number of cells than the
            header or no image file, or the column that is unknown or repeated.
    """
    if source.suffix.lower() == ".parquet":
        columns, rows = _parquet_rows(source, free)
    else:
        columns, rows = _text_rows(source, free)
    for cells, where in rows:
        row = dict(zip(columns, cells))
        row["path"] = _resolve(row["path"], source.parent, where, remote=free)
        yield row, where


def read_cells(source: Path, needed: Sequence[str], known: Sequence[str]) -> Iterator[Row]:
    """Read a table of other things than images; cells and header as of `read_table`.

    Args:
        source: the file.
        needed: columns that it has, and cells that are not blank.
        known: columns that it may have; further ones are kept too, if not similar to these.

    Raises:
        UserError: as `read_table`; names the column or cell that is missing.
    """
    both = (*needed, *known)
    is_packed = source.suffix.lower() == ".parquet"
    columns, rows = (_parquet_rows if is_packed else _text_rows)(source, True, both)
    for column in needed:
        if column not in columns:
            raise UserError(f"{source}: no column {column}; needed are {', '.join(needed)}")
    for cells, where in rows:
        row = dict(zip(columns, cells))
        for column in needed:
            if not row[column]:
                raise UserError(f"{where}: {column} is blank")
        yield row, where


def _text_rows(
    source: Path, free: bool, known: Sequence[str] = COLUMNS
) -> tuple[list[str], Iterator[tuple[list[str], str]]]:
    """Columns, and (cells, file and line) of each row."""
    lines = _lines(source)
    header = next(lines, "")
    separator = max(_SEPARATORS, key=header.count)  # the first of equals, a comma
    columns = _cells(next(csv.reader([header], delimiter=separator), []))
    _check_columns(columns, f"{source}, line 1", free, known)

    def rows() -> Iterator[tuple[list[str], str]]:
        reader = csv.reader(lines, delimiter=separator, strict=True)
        try:
            for line in reader:
                cells, where = _cells(line), f"{source}, line {reader.line_num + 1}"
                if not any(cells):
                    continue
                if len(cells) != len(columns):
                    raise UserError(
                        f"{where}: {len(cells)} cells in a table of {len(columns)} columns "
                        f"({', '.join(columns)}); put values with {separator!r} in quotes"
                    )
                yield cells, where
        except csv.Error as error:
            raise UserError(f"{source}, line {reader.line_num + 1}: {error}") from None

    return columns, rows()


def _parquet_rows(
    source: Path, free: bool, known: Sequence[str] = COLUMNS
) -> tuple[list[str], Iterator[tuple[list[str], str]]]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{source} needs the package pyarrow: pip install 'icre[parquet]', or save it as .csv"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(source) as file:  # a directory is no file to it
            columns = [str(name) for name in file.schema_arrow.names]
            _check_columns(columns, str(source), free, known)
            if file.metadata.num_rows > MAX_ROWS:  # few bytes can declare very many
                raise UserError(
                    f"{source} has {file.metadata.num_rows} rows, at most {MAX_ROWS} are read"
                )
            table = file.read()
        values = [table.column(name).to_pylist() for name in columns]
    except UserError:
        raise
    except Exception as error:  # pyarrow raises several kinds for a damaged file
        reason = " ".join(str(error).split())[:150]
        raise UserError(f"{source} is no Parquet file ({reason})") from None

    def text(value: Any) -> str:
        if isinstance(value, float) and value.is_integer():
            return str(int(value))  # integers with gaps are kept as floats
        return "" if value is None else str(value).strip()

    cells = ([text(value) for value in row] for row in zip(*values))
    return columns, ((row, f"{source}, row {number}") for number, row in enumerate(cells, start=1))


def _lines(source: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, without a byte order mark."""
    with open(source, "rb") as file:
        number = 0
        while line := file.readline(_LINE):
            number += 1
            try:
                if len(line) == _LINE:
                    raise ValueError
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except ValueError:
                raise UserError(
                    f"{source}, line {number}: no UTF-8 text: name images, a folder, a list or a "
                    "table, and save lists and tables as UTF-8"
                ) from None
            yield text


def _cells(cells: Sequence[str]) -> list[str]:
    return [cell.strip() for cell in cells]


def _check_columns(columns: Sequence[str], where: str, free: bool, known: Sequence[str]) -> None:
    for column in columns:
        if column not in known:
            close = difflib.get_close_matches(column.lower(), known, 1, 0.8 if free else 0.6)
            meant = _SYNONYMS.get(column.lower()) or (close[0] if close else None)
            meant = meant if meant in known else None
            if free and column and not meant:
                continue
            hint = f" (do you mean {meant}?)" if meant else ""
            raise UserError(
                f"{where}: unknown column {column!r}{hint}; a table has a header, and the columns "
                f"{', '.join(known)}"
            )
        if columns.count(column) > 1:
            raise UserError(f"{where}: column {column} is there {columns.count(column)} times")
    if "path" in known and "path" not in columns:
        raise UserError(f"{where}: the header has no column path; columns: {', '.join(known)}")


def _resolve(path: str, folder: Path, where: str, remote: bool) -> str:
    """The path of a row's image, which must be an image file, or with `remote` a URL of one."""
    if not path:
        raise UserError(f"{where}: no path")
    if remote and is_remote(path) and is_image(path.rpartition("/")[2]):
        return path  # whether it is there is found with the others of its store
    beside = os.path.join(folder, path)
    found = beside if os.path.isfile(beside) else path
    if not is_image(os.path.basename(path)) or not os.path.isfile(found):
        raise UserError(f"{where}: {path} is no image file")
    return found
