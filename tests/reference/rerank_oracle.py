"""k-reciprocal re-ranking in plain loops over Python sets, from the definitions of the paper."""

import math

import numpy as np


def loop_rerank(
    query: np.ndarray,
    gallery: np.ndarray,
    algorithm: str,
    k1: int,
    k2: int,
    lambda_value: float,
    order: np.ndarray | None = None,
) -> np.ndarray:
    """(Q, G) re-ranked distances; `order`: neighbours, where copies make them unclear."""
    images = [*query.astype(np.float64), *gallery.astype(np.float64)]
    square = np.array([[((x - y) ** 2).sum() for y in images] for x in images])
    if order is None:
        order = np.argsort(square, axis=1, kind="stable")
    extra = 1 if algorithm == "original" else 0
    half = round(k1 / 2) + 1
    if algorithm == "original":
        unit = square.max(axis=1, keepdims=True)
        square = square / np.where(unit > 0, unit, 1)
    else:
        # fast-reid searches k1 images, so no list of its can be longer
        half, k2 = min(half, k1), min(k2, k1)
    codes = [_code(row, order, square, k1 + extra, half) for row in range(len(images))]
    averaged = []
    for row in range(len(images)):
        near = list(order[row][:k2])
        members = set().union(*(codes[other] for other in near))
        averaged.append(
            {one: sum(codes[other].get(one, 0) for other in near) / len(near) for one in members}
        )
    result = np.empty((len(query), len(gallery)))
    for q in range(len(query)):
        for g in range(len(gallery)):
            first, second = averaged[q], averaged[len(query) + g]
            common = sum(min(weight, second.get(one, 0)) for one, weight in first.items())
            plain = square[q, len(query) + g]
            if algorithm == "fastreid":
                plain = 1 - images[q] @ images[len(query) + g]
            jaccard = 1 - common / (2 - common)
            result[q, g] = (1 - lambda_value) * jaccard + lambda_value * plain
    return result


def _code(row: int, order: np.ndarray, square: np.ndarray, full: int, half: int) -> dict:
    """Image -> weight of one image's expanded reciprocal neighbours."""
    members = _reciprocal(row, order, full)
    expanded = set(members)
    for candidate in members:
        others = _reciprocal(candidate, order, half)
        if len(others & members) > 2 / 3 * len(others):
            expanded |= others
    weights = {one: math.exp(-square[row, one]) for one in expanded}
    return {one: weight / sum(weights.values()) for one, weight in weights.items()}


def _reciprocal(row: int, order: np.ndarray, width: int) -> set[int]:
    return {int(one) for one in order[row][:width] if row in order[one][:width]}
