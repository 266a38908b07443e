"""The ICG loss (pull_push) by loops over images and identities: slow, plain, float64."""

import math

Vector = list[float]


def _mean(vectors: list[Vector]) -> Vector:
    return [sum(column) / len(vectors) for column in zip(*vectors)]


def icg_loops(
    features: list[Vector], targets: list[int], modalities: list[int], rho1: float, rho2: float
) -> tuple[float, float]:
    """pull and push of `icre.modeling.losses.icg.pull_push`, from its formula."""
    images = list(zip(features, targets, modalities))
    pulls = []
    for f, y, m in images:
        others = [g for g, z, n in images if z == y and n != m]
        if others:
            pulls.append(max(math.dist(f, _mean(others)) - rho2, 0.0))

    centres = []
    for identity in sorted(set(targets)):
        present = sorted({n for _, z, n in images if z == identity})
        centres.append(
            _mean([_mean([g for g, z, k in images if z == identity and k == n]) for n in present])
        )
    pushes = [
        max(rho1 - math.dist(a, b), 0.0)
        for i, a in enumerate(centres)
        for j, b in enumerate(centres)
        if i != j
    ]
    return sum(pulls) / max(len(pulls), 1), sum(pushes) / max(len(pushes), 1)
