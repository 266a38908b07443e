"""MPFR and SDCE by loops over images, positions and heads, in NumPy float64, from a state dict.

Norms use their running statistics (evaluation mode).
"""

import math

import numpy as np

Array = np.ndarray
State = dict[str, Array]


def resize_loops(x: Array, grid: tuple[int, int]) -> Array:
    """Adaptive average pooling: cell i of n covers rows floor(i H / n) .. ceil((i+1) H / n)."""
    (height, width), (h, w) = x.shape[1:], grid
    out = np.zeros((x.shape[0], h, w))
    for i in range(h):
        for j in range(w):
            top, bottom = i * height // h, math.ceil((i + 1) * height / h)
            left, right = j * width // w, math.ceil((j + 1) * width / w)
            out[:, i, j] = x[:, top:bottom, left:right].mean(axis=(1, 2))
    return out


def conv_norm_relu(x: Array, state: State, name: str) -> Array:
    """ReLU(BN(Conv1x1(x))) of one position: (C,) -> (d,)."""
    y = state[f"{name}.0.weight"][:, :, 0, 0] @ x
    scale = state[f"{name}.1.weight"] / np.sqrt(state[f"{name}.1.running_var"] + 1e-5)
    return np.maximum((y - state[f"{name}.1.running_mean"]) * scale + state[f"{name}.1.bias"], 0)


def mpfr_loops(maps: dict[str, Array], state: State, stages: list[str]) -> tuple[Array, Array]:
    """Clue map (B, d, h, w) and masks (B, S, h, w) of `icre.modeling.mpfr.MPFR`."""
    batch, _, h, w = maps["layer4"].shape
    clues = np.zeros((batch, len(state["fuse.1.weight"]), h, w))
    masks = np.zeros((batch, len(stages), h, w))
    for b in range(batch):
        resized = {s: resize_loops(maps[s][b], (h, w)) for s in stages}
        for i in range(h):
            for j in range(w):
                aligned = [
                    conv_norm_relu(resized[s][:, i, j], state, f"align.{s}.project") for s in stages
                ]
                logits = state["mask.weight"][:, :, 0, 0] @ np.concatenate(aligned)
                mask = 1 / (1 + np.exp(-(logits + state["mask.bias"])))
                mixed = sum(m * a for m, a in zip(mask, aligned))
                masks[b, :, i, j] = mask
                clues[b, :, i, j] = conv_norm_relu(mixed, state, "fuse")
    return clues, masks


def layer_norm(x: Array, state: State, name: str) -> Array:
    """LN of one token, (d,)."""
    normalised = (x - x.mean()) / math.sqrt(x.var() + 1e-5)
    return normalised * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x: Array, state: State, name: str) -> Array:
    """W x + b of one token."""
    return state[f"{name}.weight"] @ x + state[f"{name}.bias"]


def attend(q: list[Array], u: list[Array], state: State, name: str, heads: int) -> list[Array]:
    """softmax(q k / sqrt(d/H)) v, one head and one asking token at a time."""
    d = len(q[0])
    size = d // heads
    queries = [linear(x, state, f"{name}.query") for x in q]
    pairs = [linear(x, state, f"{name}.key_value") for x in u]
    out = []
    for query in queries:
        mixed = np.zeros(d)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            scores = [math.exp(query[part] @ p[:d][part] / math.sqrt(size)) for p in pairs]
            mixed[part] = sum(s * p[d:][part] for s, p in zip(scores, pairs)) / sum(scores)
        out.append(linear(mixed, state, f"{name}.out"))
    return out


def feed_forward(x: Array, state: State, name: str) -> Array:
    """FFN(LN x) with the exact GELU, of one token."""
    hidden = linear(layer_norm(x, state, f"{name}.0"), state, f"{name}.1")
    activated = np.array([v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in hidden])
    return linear(activated, state, f"{name}.4")


def sdce_loops(deep: Array, clues: Array, state: State, heads: int) -> Array:
    """T2' as a map, (B, d, h, w), of `icre.modeling.sdce.SDCE`."""
    batch, _, h, w = deep.shape
    out = np.zeros((batch, clues.shape[1], h, w))
    cells = [(i, j) for i in range(h) for j in range(w)]
    weight, bias = state["ask.weight"][:, :, 0, 0], state["ask.bias"]
    for b in range(batch):
        t = [weight @ deep[b, :, i, j] + bias for i, j in cells]
        u = [layer_norm(clues[b, :, i, j], state, "norm_clues") for i, j in cells]
        q = [layer_norm(x, state, "norm_deep") for x in t]
        t = [x + y for x, y in zip(t, attend(q, u, state, "cross_attention", heads))]
        t = [x + feed_forward(x, state, "cross_ffn") for x in t]
        s = [layer_norm(x, state, "norm_self") for x in t]
        t = [x + y for x, y in zip(t, attend(s, s, state, "self_attention", heads))]
        t = [x + feed_forward(x, state, "self_ffn") for x in t]
        for (i, j), x in zip(cells, t):
            out[b, :, i, j] = x
    return out


def as_arrays(module) -> State:
    """A torch module's state dict as float64 arrays."""
    return {name: value.double().numpy() for name, value in module.state_dict().items()}
