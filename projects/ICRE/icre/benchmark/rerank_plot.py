"""The growth plot of `tools/benchmark.py rerank`."""

from pathlib import Path
from typing import Any

from icre.utils.files import replaced

_COLOURS = {"ours": "#1f6feb", "theirs": "#cf222e"}
_JOBS = {"fastreid": "-", "original": "--"}
_NAMES = {"ours": "icre", "theirs": "fast-reid"}


def save_plot(result: dict[str, Any], path: str | Path) -> None:
    """Draw seconds and gigabytes over the number of images, both axes logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, suffix, unit, label in zip(
        figure.subplots(1, 2), ("", "_memory"), (1, 1e9), ("seconds", "peak memory, GB")
    ):
        for job, line in _JOBS.items():
            for side, colour in _COLOURS.items():
                points = [
                    (one["images"], entry[side + suffix] / unit)
                    for one in result["sizes"]
                    for entry in one["jobs"]
                    if entry["job"] == job and entry[side + suffix]
                ]
                if points:
                    axes.plot(
                        *zip(*points),
                        line,
                        color=colour,
                        marker="o",
                        markersize=3,
                        label=f"{_NAMES[side]}, {job}",
                    )
        axes.set(xscale="log", yscale="log", xlabel="images (3.8 % are queries)", ylabel=label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8, frameon=False)
    where = (
        f"{result['cpu']}, {result['threads']} threads"
        if result["device"] == "cpu"
        else result["gpu"]
    )
    figure.suptitle(
        f"k-reciprocal re-ranking, D = {result['dimensions']}, k1 = {result['k1']}, "
        f"k2 = {result['k2']}; {where}",
        fontsize=9,
    )
    with replaced(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
