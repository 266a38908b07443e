"""The nine test protocols: who is query, who is gallery, which draw, who is barred, what counts.

SYSU-MM01: Wu et al., ICCV 2017; RegDB: Nguyen et al., Sensors 2017; LLCM: Zhang and Wang, CVPR
2023.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from icre.modality import INFRARED, SYSU_INFRARED_CAMERAS, SYSU_VISIBLE_CAMERAS, VISIBLE
from icre.utils.errors import UserError

OFFICIAL, SEEDED = "official", "seeded"


@dataclass(frozen=True)
class Side:
    """A modality, and the cameras of it that take part (None: all)."""

    modality: int
    cameras: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Protocol:
    """One way to test.

    Args:
        dataset: the layout it belongs to.
        query, gallery: the images on either side.
        draws: the draws in use, the default first; empty where every image takes part.
        sampled: the side that is drawn.
        shots: images per identity and camera in a draw.
        barred: key of `CAMERA_RULES`.
        dedup: CMC counts each identity once.
    """

    dataset: str
    query: Side
    gallery: Side
    draws: tuple[str, ...] = ()
    sampled: str = "gallery"
    shots: int = 1
    barred: str = "none"
    dedup: bool = True


def _sysu(cameras: tuple[int, ...], shots: int) -> Protocol:
    # The AGW family draws one image, so a seeded multi-shot gallery is in nobody's tables.
    draws = (OFFICIAL, SEEDED) if shots == 1 else (OFFICIAL,)
    return Protocol(
        "sysu",
        Side(INFRARED, SYSU_INFRARED_CAMERAS),
        Side(VISIBLE, cameras),
        draws=draws,
        shots=shots,
        barred="same-place",
    )


def _llcm(query: int, gallery: int, sampled: str = "gallery") -> Protocol:
    return Protocol(
        "llcm",
        Side(query),
        Side(gallery),
        draws=(SEEDED,),
        sampled=sampled,
        barred="same-identity-and-camera",
    )


PROTOCOLS: dict[str, Protocol] = {
    "sysu-all-single": _sysu(SYSU_VISIBLE_CAMERAS, 1),
    "sysu-all-multi": _sysu(SYSU_VISIBLE_CAMERAS, 10),
    "sysu-indoor-single": _sysu((1, 2), 1),
    "sysu-indoor-multi": _sysu((1, 2), 10),
    "regdb-v2t": Protocol("regdb", Side(VISIBLE), Side(INFRARED), dedup=False),
    "regdb-t2v": Protocol("regdb", Side(INFRARED), Side(VISIBLE), dedup=False),
    "llcm-v2n": _llcm(VISIBLE, INFRARED),
    "llcm-n2v": _llcm(INFRARED, VISIBLE),
    # The first public code swaps the roles for this direction: sampled NIR asks, all VIS answer.
    "llcm-v2n-swapped": _llcm(INFRARED, VISIBLE, sampled="query"),
}

DEFAULTS: dict[str, tuple[str, ...]] = {
    "sysu": ("sysu-all-single", "sysu-all-multi", "sysu-indoor-single", "sysu-indoor-multi"),
    "regdb": ("regdb-v2t", "regdb-t2v"),
    "llcm": ("llcm-v2n", "llcm-n2v"),
}


def _same_place(query_pids: Tensor, query_cams: Tensor, pids: Tensor, cams: Tensor) -> Tensor:
    return (query_cams[:, None] == 3) & (cams == 2)


def _same_shot(query_pids: Tensor, query_cams: Tensor, pids: Tensor, cams: Tensor) -> Tensor:
    return (query_pids[:, None] == pids) & (query_cams[:, None] == cams)


# (query pids, query camids, gallery pids, gallery camids) -> (Q, G) bool, True: not in the gallery.
# SYSU-MM01's cameras 2 and 3 share a place, so the rule there does not look at identities.
CAMERA_RULES: Mapping[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None] = {
    "none": None,
    "same-place": _same_place,
    "same-identity-and-camera": _same_shot,
}


def find(name: str) -> Protocol:
    """The protocol of that name; an unknown name raises a UserError that lists the names."""
    if name not in PROTOCOLS:
        raise UserError(f"unknown protocol '{name}'; the names are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def settings(
    layout: str | None, names: Sequence[str] | None, draw: str | None, official: bool
) -> list[tuple[str, str | None]]:
    """Which protocol to score with which draw.

    Args:
        layout: that of the features; None where it is not known, and then `names` is needed.
        names: protocol names; None: `DEFAULTS` of the layout, for SYSU-MM01 with both draws.
        draw: only this draw; None: all defaults, or for given names the official draw if there is
            a permutation file, else the seeded one.
        official: a permutation file is given.

    Raises:
        UserError: an unknown name or draw, a protocol of another data set, a draw that a protocol
            does not have or that lacks its permutation file.
    """
    if draw not in (None, OFFICIAL, SEEDED):
        raise UserError(f"unknown draw '{draw}'; the names are {OFFICIAL}, {SEEDED}")
    if names is None:
        if layout is None:
            raise UserError("the paths are in no known layout: name the protocols to score")
        found = _default_settings(layout, draw, official)
        if not found:
            raise UserError(f"{layout} has no {draw} draw: leave the draw out")
    else:
        found = [(name, _only_draw(name, draw, official)) for name in names]
    for name, chosen in found:
        if layout not in (None, find(name).dataset):
            dataset = find(name).dataset
            raise UserError(f"{name} is a protocol of {dataset}, the paths are those of {layout}")
        if chosen == OFFICIAL and not official:
            raise UserError(
                f"{name}: the official draw needs rand_perm_cam.mat (exp/rand_perm_cam.mat, "
                "from the authors' evaluation code)"
            )
    return found


def side_rows(side: Side, camids: np.ndarray, modalities: np.ndarray) -> np.ndarray:
    """Ascending indices of the images of that side."""
    chosen = modalities == side.modality
    if side.cameras is not None:
        chosen &= np.isin(camids, side.cameras)
    return np.flatnonzero(chosen)


def _default_settings(
    layout: str, draw: str | None, official: bool
) -> list[tuple[str, str | None]]:
    """All default protocols of the layout with every draw they can have here, official first."""
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
