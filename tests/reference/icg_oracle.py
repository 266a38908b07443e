"""The ICG loss's variants and the losses it is compared with, by loops: slow, plain, float64."""

import math

Vector = list[float]
Centres = dict[tuple[int, int], Vector]  # (identity, modality) -> centre


def _mean(vectors: list[Vector]) -> Vector:
    return [sum(column) / len(vectors) for column in zip(*vectors)]


def _average(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def _centres(features: list[Vector], targets: list[int], modalities: list[int]) -> Centres:
    images = list(zip(features, targets, modalities))
    keys = sorted(set(zip(targets, modalities)))
    return {(y, m): _mean([f for f, z, n in images if (z, n) == (y, m)]) for y, m in keys}


def _joint(centres: Centres) -> list[Vector]:
    """(c^v + c^r) / 2 of each identity, or the one centre that it has."""
    identities = sorted({y for y, _ in centres})
    return [_mean([c for (z, _), c in centres.items() if z == y]) for y in identities]


def _push(points: list[Vector], margin: float) -> float:
    return _average(
        [
            max(margin - math.dist(a, b), 0.0)
            for i, a in enumerate(points)
            for j, b in enumerate(points)
            if i != j
        ]
    )


def _unit(v: Vector) -> Vector:
    length = math.hypot(*v)
    return [x / length for x in v]


def icg_loops(
    features: list[Vector], targets: list[int], modalities: list[int], rho1: float, rho2: float
) -> tuple[float, float]:
    """pull and push of `icre.modeling.losses.pull_push.pull_push`, from its formula."""
    images = list(zip(features, targets, modalities))
    pulls = []
    for f, y, m in images:
        others = [g for g, z, n in images if z == y and n != m]
        if others:
            pulls.append(max(math.dist(f, _mean(others)) - rho2, 0.0))
    return _average(pulls), _push(_joint(_centres(features, targets, modalities)), rho1)


def rank_loops(
    features: list[Vector],
    targets: list[int],
    modalities: list[int],
    rho1: float,
    rho2: float,
    norm: bool = True,
) -> tuple[float, float]:
    """cross and intra of `icre.modeling.losses.rank.rank`, from its formula."""
    centres = _centres(features, targets, modalities)
    if norm:
        centres = {key: _unit(c) for key, c in centres.items()}
    cross, intra = [], []
    for (y, m), c in centres.items():
        across = [math.dist(c, d) for (z, n), d in centres.items() if z != y and n != m]
        within = [math.dist(c, d) for (z, n), d in centres.items() if z != y and n == m]
        if (y, 1 - m) in centres and across:
            gap = math.dist(c, centres[y, 1 - m])
            cross.append(max(rho1 + gap - min(across), 0.0))
        if within:
            intra.append(max(rho2 - min(within), 0.0))
    return _average(cross), 0.1 * _average(intra)


def soft_rank_loops(
    features: list[Vector], targets: list[int], modalities: list[int], rho1: float
) -> float:
    """`icre.modeling.losses.soft_rank.soft_rank`, from its formula."""
    centres = _centres(features, targets, modalities)
    losses = []
    for f, y, m in zip(features, targets, modalities):
        if (y, 1 - m) in centres:
            gap = math.dist(f, centres[y, 1 - m])
            rivals = [math.dist(f, c) for (z, _), c in centres.items() if z != y]
            losses.append(math.log(1 + sum(math.exp(rho1 + gap - d) for d in rivals)))
    return _average(losses)


def guided_loops(
    features: list[Vector],
    targets: list[int],
    modalities: list[int],
    rho1: float,
    rho2: float,
    unenhanced: list[Vector],
) -> tuple[float, float]:
    """pull and push of `icre.modeling.losses.guided.guided`, from its formula."""
    after = _centres(features, targets, modalities)
    before = _centres(unenhanced, targets, modalities)
    pulls = []
    for y in sorted(set(targets)):
        if (y, 0) in after and (y, 1) in after:
            gap = math.dist(after[y, 0], after[y, 1]) - math.dist(before[y, 0], before[y, 1])
            pulls.append(max(gap + rho1, 0.0))
    return _average(pulls), _push(_joint(after), rho2)


def hetero_center_triplet_loops(
    features: list[Vector], targets: list[int], modalities: list[int], margin: float
) -> float:
    """Over all centres: the farthest of the same identity (itself at 0) before the next other."""
    centres = _centres(features, targets, modalities)
    losses = []
    for (y, _), c in centres.items():
        positives = [math.dist(c, d) for (z, _), d in centres.items() if z == y]
        negatives = [math.dist(c, d) for (z, _), d in centres.items() if z != y]
        if negatives:
            losses.append(max(margin + max(positives) - min(negatives), 0.0))
    return _average(losses)


def center_cluster_loops(
    features: list[Vector], targets: list[int], margin: float
) -> tuple[float, float]:
    """Distance to the identity's centre, and identities' centres `margin` apart."""
    centres = {y: _mean([f for f, z in zip(features, targets) if z == y]) for y in set(targets)}
    pulls = [math.dist(f, centres[y]) for f, y in zip(features, targets)]
    return _average(pulls), _push(list(centres.values()), margin)


def weighted_triplet_loops(features: list[Vector], targets: list[int]) -> float:
    """log(1 + exp(weighted positive - weighted negative)), softmax weights by distance."""
    losses = []
    for f, y in zip(features, targets):
        near = [math.dist(f, g) for g, z in zip(features, targets) if z == y]
        far = [math.dist(f, g) for g, z in zip(features, targets) if z != y]
        if far:
            p = sum(math.exp(d) * d for d in near) / sum(math.exp(d) for d in near)
            n = sum(math.exp(-d) * d for d in far) / sum(math.exp(-d) for d in far)
            losses.append(math.log1p(math.exp(p - n)))
    return _average(losses)
