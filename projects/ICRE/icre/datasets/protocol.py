"""Test protocols: query and gallery images, gallery sampling, excluded matches, CMC counting.

Each data set's file lists its own protocols; this module has what they are made of. A set without
published protocols (a table, features of any origin) has those that its names say:

    <set>-i2v                every infrared image against every visible one
    <set>-v2i                every visible image against every infrared one
    ...-single               a gallery of one image per identity and camera, in ten seeded trials
    ...-other-cameras        without a query's matches of its own camera

Every set, published or not, has those of a gallery of both modalities too. A query's own image is
in it, so images of the same identity and camera are always excluded there, and the data set's own
rule (SYSU-MM01's location) holds in both directions:

    <set>-i2mixed            every infrared image against the images of both modalities
    <set>-v2mixed            every visible image against them
    ...-single               one image per identity, camera and modality, in ten seeded trials
    ...-infrared20           images of one modality left out at random, in ten seeded trials, so
                             that 20 % (1 to 99) of the gallery are infrared
    ...-cross                a query's matches of its own modality take no rank: where in the
                             mixed list is the first (each) match of the other modality?
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from icre.modality import INFRARED, VISIBLE
from icre.utils.errors import UserError

OFFICIAL, SEEDED = "official", "seeded"
ANY = "any"  # the set of features that name none
_DIRECTIONS = {"i2v": (INFRARED, VISIBLE), "v2i": (VISIBLE, INFRARED)}
_SINGLE, _OTHER_CAMERAS = "-single", "-other-cameras"
_BY_NAME = re.compile(rf"(.+)-({'|'.join(_DIRECTIONS)})({_SINGLE})?({_OTHER_CAMERAS})?")
_QUERIES = {"i2mixed": INFRARED, "v2mixed": VISIBLE}
MIXED_SUFFIXES = f"[{_SINGLE}][-infrared<1..99>][-cross]"
_MIXED = re.compile(rf"(.+)-({'|'.join(_QUERIES)})({_SINGLE})?(?:-infrared([1-9][0-9]?))?(-cross)?")


@dataclass(frozen=True)
class Side:
    """The query or the gallery side: modality (None: both), and cameras that take part (all)."""

    modality: int | None
    cameras: tuple[int, ...] | None = None

    def rows(self, camids: np.ndarray, modalities: np.ndarray) -> np.ndarray:
        """Ascending indices of the images of this side; camids and modalities are (N,)."""
        every = self.modality is None
        chosen = np.full(len(modalities), True) if every else modalities == self.modality
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
        shots: images per identity and camera in a sample; None: all of them.
        excluded: key of `EXCLUSION_RULES`.
        dedup: CMC counts each identity once.
        infrared: percentage of infrared images in a gallery of both modalities; None: as it is.
        cross: a query's matches of its own modality are excluded.
    """

    dataset: str
    query: Side
    gallery: Side
    draws: tuple[str, ...] = ()
    sampled: str = "gallery"
    shots: int | None = 1
    excluded: str = "none"
    dedup: bool = True
    infrared: int | None = None
    cross: bool = False

    @property
    def mixed(self) -> bool:
        """Whether the gallery holds both modalities."""
        return self.gallery.modality is None


PROTOCOLS: dict[str, Protocol] = {}  # filled by `register_protocols`
DEFAULTS: dict[str, tuple[str, ...]] = {}  # layout -> names of the protocols scored by default


def register_protocols(
    layout: str, protocols: Mapping[str, Protocol], default: Sequence[str] | None = None
) -> None:
    """Add a data set's protocols, and those of a gallery of both modalities.

    Args:
        layout: of the data set.
        protocols: its own, by their names.
        default: names of those scored unless others are asked for; None: all of its own.
    """
    PROTOCOLS.update(protocols)
    DEFAULTS[layout] = tuple(protocols) if default is None else tuple(default)
    for direction in _QUERIES:
        PROTOCOLS[f"{layout}-{direction}"] = _mixed(layout, direction)


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
    if mixed := _MIXED.fullmatch(name):
        return _mixed(*mixed.groups())
    match = _BY_NAME.fullmatch(name)
    if match is None or match[1] in DEFAULTS:
        raise UserError(
            f"unknown protocol '{name}'; the names are {', '.join(PROTOCOLS)}, and those of a "
            f"table, <its name>-i2v or -v2i, then {_SINGLE} and {_OTHER_CAMERAS} where wanted; "
            f"i2mixed and v2mixed of any set may end in {MIXED_SUFFIXES}"
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


def _mixed(
    dataset: str,
    direction: str,
    single: str | None = None,
    infrared: str | None = None,
    cross: str | None = None,
) -> Protocol:
    """The protocol of a gallery of both modalities; CMC and exclusion as the set's first one."""
    own = [PROTOCOLS[name] for name in DEFAULTS.get(dataset, ())]
    like = own[0] if own else Protocol(dataset, Side(None), Side(None), dedup=False)
    return replace(
        like,
        query=Side(_QUERIES[direction]),
        gallery=Side(None),
        draws=(SEEDED,) if single or infrared else (),
        sampled="gallery",
        shots=1 if single else None,
        infrared=int(infrared) if infrared else None,
        cross=cross is not None,
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
