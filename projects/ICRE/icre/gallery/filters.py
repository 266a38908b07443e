"""Conditions on images of a gallery: of queries, and of what is removed."""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cached_property
from typing import Self

import numpy as np

from icre.gallery.columns import Columns
from icre.gallery.times import parse_time
from icre.modality import NAMES
from icre.utils.choice import natural
from icre.utils.errors import UserError

_LISTED = 20  # names in a message


@dataclass(frozen=True)
class Filter:
    """Images that meet all conditions.

    Args:
        modality: names of `icre.modality`; any of them.
        camera, identity: any of these texts.
        not_camera: none of these.
        after: at or after this time, datetime64[us].
        before: before it. An image of unknown time meets neither.
        path: any of these patterns of the shell (`*`, `?`, `[a-z]`) fits the whole path.
        where: (attribute, value): each attribute has one of its values.
    """

    modality: tuple[str, ...] = ()
    camera: tuple[str, ...] = ()
    not_camera: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    after: np.datetime64 | None = None
    before: np.datetime64 | None = None
    path: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, **options: object) -> Self:
        """From the texts of a command line: `after` and `before` times, `where` KEY=VALUE.

        Raises:
            UserError: a time that cannot be read, or no KEY=VALUE.
        """
        values: dict = {}
        for name, value in options.items():
            if value is None or value == []:
                continue
            if name in ("after", "before"):
                values[name] = parse_time(str(value), f"--{name}")
            elif name == "where":
                values[name] = tuple(_pair(text) for text in value)  # type: ignore[attr-defined]
            else:
                values[name] = tuple(map(str, value))  # type: ignore[call-overload]
        return cls(**values)

    def __bool__(self) -> bool:
        values = (getattr(self, field.name) for field in fields(self))
        return any(bool(one) if isinstance(one, tuple) else one is not None for one in values)

    def __str__(self) -> str:
        """As the options of the command line."""
        parts = []
        for field in fields(self):
            value, option = getattr(self, field.name), field.name.replace("_", "-")
            if field.name == "where":
                parts += [f"--where {key}={text}" for key, text in value]
            elif isinstance(value, tuple):
                parts += [f"--{option} {' '.join(value)}"] if value else []
            elif value is not None:
                parts.append(f"--{option} {value}Z")
        return " ".join(parts)

    def check(self, parts: Iterable[Columns], gallery: str) -> None:
        """Find what cannot be meant.

        Raises:
            UserError: names a camera, identity, modality or attribute that no image has, and what
                there is; or that `after` is not before `before`.
        """
        parts = list(parts)
        if self.after is not None and self.before is not None and self.after >= self.before:
            raise UserError(f"--after {self.after} is not before --before {self.before}")
        for name in self.modality:
            if name not in NAMES:
                raise UserError(f"modality {name!r} is none of {', '.join(NAMES)}")
        for column, wanted in (
            ("camera", self.camera + self.not_camera),
            ("identity", self.identity),
        ):
            self._check_names(parts, column, wanted, f"--{column}", gallery)
        for key in dict.fromkeys(key for key, _ in self.where):
            known = sorted({name for part in parts for name in part.attributes})
            if key not in known:
                raise UserError(
                    f"--where {key}=: gallery {gallery} has no attribute {key!r}; "
                    f"it has {', '.join(known) or 'none'}"
                )
            wanted = tuple(value for name, value in self.where if name == key)
            self._check_names(parts, key, wanted, f"--where {key}=", gallery)

    @staticmethod
    def _check_names(
        parts: list[Columns], column: str, wanted: tuple[str, ...], option: str, gallery: str
    ) -> None:
        if not wanted:
            return
        names = [part.texts[column].names for part in parts if column in part.texts]
        chosen = frozenset(wanted)
        there = {name for one in names for name in one if name in chosen}
        if any(len(part) and column not in part.texts for part in parts):
            there.add("")  # as `mask` counts an attribute that a part of the rows does not have
        missing = [name for name in wanted if name not in there]
        if missing:
            known = {name for one in names for name in one}
            name = missing[0]
            close = get_close_matches(name, known, 3) if len(known) > _LISTED else []
            shown = close or sorted(known - {""}, key=natural)[:_LISTED]
            more = len(known - {""}) - len(shown)
            listed = ", ".join(shown) + (f" and {more} more" if more else "")
            raise UserError(
                f"{option} {name}: no image of gallery {gallery} has it; "
                f"there is {listed or 'no ' + column + ' known'}"
            )

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(fnmatch.translate, self.path)))

    def fits(self, path: str) -> bool:
        """Whether a path meets one of the patterns; without any each does."""
        return self._pattern.match(path) is not None

    def mask(self, part: Columns) -> np.ndarray:
        """(N,) which images meet all conditions."""
        result = np.ones(len(part), dtype=bool)
        if self.modality:
            result &= np.isin(part.modalities, [NAMES.index(name) for name in self.modality])
        if self.camera:
            result &= part.texts["camera"].isin(frozenset(self.camera))
        if self.not_camera:
            result &= ~part.texts["camera"].isin(frozenset(self.not_camera))
        if self.identity:
            result &= part.texts["identity"].isin(frozenset(self.identity))
        if self.after is not None:
            result &= part.times >= self.after  # NaT is not
        if self.before is not None:
            result &= part.times < self.before
        for key in dict.fromkeys(key for key, _ in self.where):
            wanted = [value for name, value in self.where if name == key]
            if key in part.texts:
                result &= part.texts[key].isin(frozenset(wanted))
            else:
                result &= "" in wanted
        if self.path and result.any():
            rows = np.flatnonzero(result)
            whole = len(rows) == len(part)
            paths = part.paths if whole else (part.paths[int(row)] for row in rows)
            result[rows] = [self.fits(path) for path in paths]
        return result


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UserError(f"--where {text}: write KEY=VALUE")
    return key, value
