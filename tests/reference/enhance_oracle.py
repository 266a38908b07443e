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


def bilinear_loops(x: Array, grid: tuple[int, int]) -> Array:
    """Between the four pixels whose centres surround a cell's centre; none lies outside."""
    (height, width), (h, w) = x.shape[1:], grid
    out = np.zeros((x.shape[0], h, w))
    for i in range(h):
        for j in range(w):
            y, z = max((i + 0.5) * height / h - 0.5, 0), max((j + 0.5) * width / w - 0.5, 0)
            top, left = int(y), int(z)
            for row, u in ((top, 1 - (y - top)), (min(top + 1, height - 1), y - top)):
                for col, v in ((left, 1 - (z - left)), (min(left + 1, width - 1), z - left)):
                    out[:, i, j] += u * v * x[:, row, col]
    return out


def conv_norm_relu(x: Array, state: State, name: str) -> Array:
    """ReLU(BN(Conv1x1(x))) of one position: (C,) -> (d,)."""
    y = state[f"{name}.0.weight"][:, :, 0, 0] @ x
    scale = state[f"{name}.1.weight"] / np.sqrt(state[f"{name}.1.running_var"] + 1e-5)
    return np.maximum((y - state[f"{name}.1.running_mean"]) * scale + state[f"{name}.1.bias"], 0)


def instance_norm_loops(x: Array, state: State, name: str) -> Array:
    """Each channel of one image to zero mean and unit variance over its positions; (d, h, w)."""
    out = np.zeros_like(x)
    for c, values in enumerate(x):
        normalised = (values - values.mean()) / math.sqrt(values.var() + 1e-5)
        out[c] = normalised * state[f"{name}.weight"][c] + state[f"{name}.bias"][c]
    return out


def mask_logits(aligned: list[Array], i: int, j: int, state: State) -> Array:
    """The 1x1 convolution over all stages at one position: (S,)."""
    cell = np.concatenate([a[:, i, j] for a in aligned])
    return state["mask.conv.weight"][:, :, 0, 0] @ cell + state["mask.conv.bias"]


def cbam_logits(aligned: list[Array], i: int, j: int, state: State) -> Array:
    """A 7x7 convolution of each stage's mean and maximum over channels, zero outside: (S,)."""
    logits = []
    for s, a in enumerate(aligned):
        total = state[f"mask.{s}.bias"][0]
        for di in range(7):
            for dj in range(7):
                y, x = i + di - 3, j + dj - 3
                if 0 <= y < a.shape[1] and 0 <= x < a.shape[2]:
                    mean, most = state[f"mask.{s}.weight"][0, :, di, dj]
                    total += mean * a[:, y, x].mean() + most * a[:, y, x].max()
        logits.append(total)
    return np.array(logits)


def mpfr_loops(
    maps: dict[str, Array],
    state: State,
    stages: list[str],
    *,
    align: str = "avg",
    mask: str = "sigmoid",
    fuse: str = "sum",
    instance_norm: bool = False,
) -> tuple[Array, Array]:
    """Clue map (B, d, h, w) and masks (B, S, h, w) of `icre.modeling.mpfr.MPFR`."""
    batch, _, h, w = maps["layer4"].shape
    clues = np.zeros((batch, len(state["fuse.1.weight"]), h, w))
    masks = np.zeros((batch, len(stages), h, w))
    resize = {"avg": resize_loops, "bilinear": bilinear_loops}[align]
    cells = [(i, j) for i in range(h) for j in range(w)]
    for b in range(batch):
        aligned = []
        for k, s in enumerate(stages):
            resized, a = resize(maps[s][b], (h, w)), np.zeros((clues.shape[1], h, w))
            for i, j in cells:
                a[:, i, j] = conv_norm_relu(resized[:, i, j], state, f"align.{s}.project")
            aligned.append(
                instance_norm_loops(a, state, f"instance_norms.{k}") if instance_norm else a
            )
        for i, j in cells:
            logits = (cbam_logits if mask == "cbam" else mask_logits)(aligned, i, j, state)
            weights = 1 / (1 + np.exp(-logits))
            if mask == "softmax":
                weights = np.exp(logits) / np.exp(logits).sum()
            masked = [m * a[:, i, j] for m, a in zip(weights, aligned)]
            mixed = np.concatenate(masked) if fuse == "concat" else sum(masked)
            masks[b, :, i, j] = weights
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
    """softmax(q k / sqrt(d/H)) v, one head and one query token at a time."""
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


def cross_block_loops(
    t: list[Array], u: list[Array], state: State, heads: int, norms: tuple[str, str]
) -> list[Array]:
    """T1' of query tokens t and key/value tokens u, normed by the two LNs that are named."""
    q, k = ([layer_norm(x, state, name) for x in tokens] for tokens, name in zip((t, u), norms))
    t = [x + y for x, y in zip(t, attend(q, k, state, "cross_attention", heads))]
    return [x + feed_forward(x, state, "cross_ffn") for x in t]


def self_block_loops(t: list[Array], state: State, heads: int) -> list[Array]:
    """T2' of tokens t."""
    s = [layer_norm(x, state, "norm_self") for x in t]
    t = [x + y for x, y in zip(t, attend(s, s, state, "self_attention", heads))]
    return [x + feed_forward(x, state, "self_ffn") for x in t]


def sdce_loops(
    deep: Array, clues: Array, state: State, heads: int, query: str = "deep", order: str = "cascade"
) -> Array:
    """The result of `icre.modeling.sdce.SDCE` as a map, (B, d, h, w)."""
    batch, _, h, w = deep.shape
    out = np.zeros((batch, clues.shape[1], h, w))
    cells = [(i, j) for i in range(h) for j in range(w)]
    weight, bias = state["deep_proj.weight"][:, :, 0, 0], state["deep_proj.bias"]
    for b in range(batch):
        t = [weight @ deep[b, :, i, j] + bias for i, j in cells]
        u = [clues[b, :, i, j] for i, j in cells]
        norms = ("norm_deep", "norm_clues")
        if query == "clue":
            t, u, norms = u, t, norms[::-1]
        if order == "cascade":
            t = self_block_loops(cross_block_loops(t, u, state, heads, norms), state, heads)
        elif order == "cross":
            t = cross_block_loops(t, u, state, heads, norms)
        elif order == "self":
            t = self_block_loops([x + y for x, y in zip(t, u)], state, heads)
        elif order == "parallel":
            one, two = (
                cross_block_loops(t, u, state, heads, norms),
                self_block_loops(t, state, heads),
            )
            t = [x + (y - x) + (z - x) for x, y, z in zip(t, one, two)]
        for (i, j), x in zip(cells, t):
            out[b, :, i, j] = x
    return out


def as_arrays(module) -> State:
    """A torch module's state dict as float64 arrays."""
    return {name: value.double().numpy() for name, value in module.state_dict().items()}
