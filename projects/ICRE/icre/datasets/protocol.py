"""Test protocols: query and gallery images, gallery sampling, excluded matches, CMC counting.

Each data set's file lists its own protocols; this module has what they are made of.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from icre.utils.errors import UserError

OFFICIAL, SEEDED = "official", "seeded"
ANY = "any"  # in place of a data set: protocols for features of any origin


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
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol '{name}'; the names are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def settings(
    layout: str | None, names: Sequence[str] | None, draw: str | None, official: bool
) -> list[tuple[str, str | None]]:
    """Which protocol to score with which gallery sampling.

    Args:
        layout: that of the features; None: not known, and no data set's protocol is for them;
            those of ANY must be named.
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
    if layout is None or layout not in DEFAULTS:
        asked = f"{names[0]} is a protocol of {find(names[0]).dataset}, but " if names else ""
        raise UserError(
            f"{asked}the paths are in no layout of a data set with protocols "
            f"({', '.join(one for one in DEFAULTS if one != ANY)}): write them as that set's "
            "folders are, register a data set with protocols of its own, or name "
            f"{' or '.join(DEFAULTS[ANY])}"
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
        for name in DEFAULTS[layout]
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
