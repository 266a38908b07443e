"""Test protocols: query and gallery images, gallery sampling, excluded matches, CMC counting.

Each data set's file lists its own protocols; this module has what they are made of. A set without
published protocols (a table, features of any origin) has those that its names say:

    <set>-i2v                every infrared image against every visible one
    <set>-v2i                every visible image against every infrared one
    ...-single               a gallery of one image per identity and camera, in ten seeded trials
    ...-other-cameras        without a query's matches of its own camera
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError

OFFICIAL, SEEDED = "official", "seeded"
ANY = "any"  # the set of features that name none
_DIRECTIONS = {"i2v": (INFRARED, VISIBLE), "v2i": (VISIBLE, INFRARED)}
_SINGLE, _OTHER_CAMERAS = "-single", "-other-cameras"
_BY_NAME = re.compile(rf"(.+)-({'|'.join(_DIRECTIONS)})({_SINGLE})?({_OTHER_CAMERAS})?")


@dataclass(frozen=True)
class Side:
    """The query or the gallery side: a modality, and its cameras that take part (None: all)."""

    modality: int
    cameras: tuple[int, ...] | None = None

    def rows(self, camids: np.ndarray, modalities: np.ndarray) -> np.ndarray:
        """Ascending indices of the images of this side; camids and modalities are (N,)."""
        chosen = modalities == self.modality
        if self.cameras is not None:
            chosen &= np.isin(camids, self.cameras)
        return np.flatnonzero(chosen)


@dataclass(frozen=True)
class Protocol:
    """One test protocol.

    Args:
        dataset: layout name of the data set that it belongs to.
        query, gallery: the images on either side.
        draws: gallery samplings in use, the default first; empty: every image takes part.
        sampled: the side that is sampled.
        shots: images per identity and camera in a sample.
        excluded: key of `EXCLUSION_RULES`.
        dedup: CMC counts each identity once.
    """

    dataset: str
    query: Side
    gallery: Side
    draws: tuple[str, ...] = ()
    sampled: str = "gallery"
    shots: int = 1
    excluded: str = "none"
    dedup: bool = True


PROTOCOLS: dict[str, Protocol] = {}  # filled by `register_protocols`
DEFAULTS: dict[str, tuple[str, ...]] = {}  # layout -> names of the protocols scored by default


def register_protocols(
    layout: str, protocols: Mapping[str, Protocol], default: Sequence[str] | None = None
) -> None:
    """Add a data set's protocols; `default`: those scored unless others are asked for (all)."""
    PROTOCOLS.update(protocols)
    DEFAULTS[layout] = tuple(protocols) if default is None else tuple(default)


def _same_location(query_pids: Tensor, query_cams: Tensor, pids: Tensor, cams: Tensor) -> Tensor:
    return (query_cams[:, None] == 3) & (cams == 2)


def _same_identity_and_camera(
    query_pids: Tensor, query_cams: Tensor, pids: Tensor, cams: Tensor
) -> Tensor:
    return (query_pids[:, None] == pids) & (query_cams[:, None] == cams)


# (query pids, query camids, gallery pids, gallery camids) -> (Q, G) bool, True: the image is
# excluded from the query's gallery. SYSU-MM01's cameras 2 and 3 are at one location, so its rule
# does not look at identities.
EXCLUSION_RULES: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None] = {
    "none": None,
    "same-location": _same_location,
    "same-identity-and-camera": _same_identity_and_camera,
}


def find(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UserError: unknown; lists the names.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    match = _BY_NAME.fullmatch(name)
    if match is None or match[1] in DEFAULTS:
        raise UserError(
            f"unknown protocol '{name}'; the names are {', '.join(PROTOCOLS)}, and those of a "
            f"table, <its name>-i2v or -v2i, then {_SINGLE} and {_OTHER_CAMERAS} where wanted"
        )
    dataset, direction, single, other_cameras = match.groups()
    query, gallery = _DIRECTIONS[direction]
    return Protocol(
        dataset,
        Side(query),
        Side(gallery),
        draws=(SEEDED,) if single else (),
        excluded="same-identity-and-camera" if other_cameras else "none",
        dedup=False,
    )


def default_names(layout: str) -> tuple[str, ...]:
    """Names of the protocols that a data set is scored by unless others are asked for."""
    return DEFAULTS.get(layout) or tuple(f"{layout}-{direction}" for direction in _DIRECTIONS)


def settings(
    layout: str | None, names: Sequence[str] | None, draw: str | None, official: bool
) -> list[tuple[str, str | None]]:
    """Which protocol to score with which gallery sampling.

    Args:
        layout: name of the features' data set; None: not known, and only the protocols of ANY are
            for them, where they are named.
        names: protocol names; None: `DEFAULTS` of the layout, with every sampling in use.
        draw: only this sampling; None: all defaults, or for given names the official one if there
            is a permutation file, else the seeded one.
        official: a permutation file is given.

    Returns:
        (protocol, sampling) pairs; the sampling is None where every image takes part.

    Raises:
        UserError: an unknown name or sampling, a protocol of another data set, a sampling that a
            protocol does not have or that lacks its permutation file.
    """
    if draw not in (None, OFFICIAL, SEEDED):
        raise UserError(f"unknown draw '{draw}'; the names are {OFFICIAL}, {SEEDED}")
    for name in names or ():
        find(name)
    if layout is None and names and all(find(name).dataset == ANY for name in names):
        layout = ANY
    if layout is None:
        asked = f"{names[0]} is a protocol of {find(names[0]).dataset}, but " if names else ""
        raise UserError(
            f"{asked}the paths are in no layout of a data set with protocols "
            f"({', '.join(DEFAULTS)}): write them as that set's folders are, register a data set "
            f"with protocols of its own, or name {' or '.join(default_names(ANY))}"
        )
    if names is None:
        found = _default_settings(layout, draw, official)
        if not found:
            raise UserError(f"{layout} has no {draw} draw: leave the draw out")
    else:
        found = [(name, _only_draw(name, draw, official)) for name in names]
    for name, chosen in found:
        if layout != find(name).dataset:
            dataset = find(name).dataset
            raise UserError(f"{name} is a protocol of {dataset}, the paths are those of {layout}")
        if chosen == OFFICIAL and not official:
            raise UserError(
                f"{name}: the official draw needs rand_perm_cam.mat (exp/rand_perm_cam.mat, "
                "from the authors' evaluation code)"
            )
    return found


def _default_settings(
    layout: str, draw: str | None, official: bool
) -> list[tuple[str, str | None]]:
    """All default protocols of the layout with every sampling possible here, official first."""
    if draw is None and not official:
        kinds: tuple[str | None, ...] = (None, SEEDED)
    else:
        kinds = (None, OFFICIAL, SEEDED) if draw is None else (draw,)
    return [
        (name, kind)
        for kind in kinds
        for name in default_names(layout)
        if kind in (find(name).draws or (None,))
    ]


def _only_draw(name: str, draw: str | None, official: bool) -> str | None:
    draws = find(name).draws
    if draw is None:
        usable = [kind for kind in draws if kind != OFFICIAL or official]
        return usable[0] if usable else next(iter(draws), None)
    if draw not in draws:
        raise UserError(f"{name} has no {draw} draw, it has {' and '.join(draws) or 'none'}")
    return draw
