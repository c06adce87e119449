"""How drigm's figures look: one palette, one type size, labels at the lines instead of legends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from drigm.core.errors import check
from drigm.runtime.files import file_errors, make_folder, replacing

# Okabe and Ito's colours, told apart with every common colour blindness; their yellow is too faint for lines.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5D3A9B", "#7F7F7F")
_DARK = {"#0072B2", "#D55E00", "#009E73", "#5D3A9B"}
INK, FAINT_INK, RULE = "#222222", "#666666", "#E3E3E3"
ON_DARK, ON_LIGHT = "#FFFFFF", "#1A1A1A"  # text on a fill; not `INK`, which a page in its dark scheme makes light

# Cooling, off, heating: blue to vermilion through near-white, so that hue carries the sign and depth the size.
COOL_HEAT = LinearSegmentedColormap.from_list("cool_heat", ["#00497A", "#4E9BCB", "#F7F7F7", "#F0894A", "#A63F00"])

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.labelcolor": FAINT_INK,
    "axes.edgecolor": FAINT_INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": FAINT_INK,
    "ytick.color": FAINT_INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "figure.facecolor": "white",
    # Fixed ids, so that the same data gives the same SVG file.
    "svg.hashsalt": "drigm",
}


# What the numbers of a score mean, by kind of environment; elsewhere it is the return of an episode.
_SCORES = dict.fromkeys(("building", "energyplus", "smax", "smac"), "1 is best") | {"supply": "1: the best base stock"}


def score_axis(env: str, wins: bool = False, when: str = "") -> str:
    """Return the label of an axis of scores in the environment named ``env``, of win rates where it has ``wins``."""
    name, unit = "Score", _SCORES.get(env.partition(":")[0], "return of an episode")
    if wins:
        name, unit = "Win rate", "share of battles"
    return f"{name}{when and ' '}{when} ({unit})"


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure of ``width`` x ``height`` inches; what is drawn in the block has drigm's look.

    The figure is not registered with pyplot, so nothing has to close it and no window can open.
    """
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


def save(figure: Figure, path: str | Path, *, dpi: int = 200) -> Path:
    """Write ``figure`` as PNG or SVG, by the suffix of ``path``, and return the path; its folder is made if needed.

    Raises:
        UserError: for another suffix, or where the file cannot be written.
    """
    path = Path(path)
    check(path.suffix.lower() in {".png", ".svg"}, "figure path", str(path), "its suffix must be .png or .svg")
    make_folder(path.parent)
    kind = path.suffix.lower().removeprefix(".")
    with file_errors(path), replacing(path) as temporary, matplotlib.rc_context(_RC):
        # No date, so that the same data gives the same file.
        figure.savefig(temporary, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None)
    return path


def write_svg(figure: Figure, stream: TextIO) -> None:
    """Write ``figure`` as SVG for a page: text as text and no background."""
    with matplotlib.rc_context({**_RC, "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})


def color(index: int) -> str:
    """Return the palette's colour number ``index``, starting again after the last."""
    return PALETTE[index % len(PALETTE)]


def ink_on(fill: str) -> str:
    """Return the colour in which text on ``fill``, one of the palette, reads best."""
    return ON_DARK if fill in _DARK else ON_LIGHT


def wrapped(text: str, inches: float, size: float) -> str:
    """Return ``text`` in lines that fit into ``inches`` at font ``size``, whose letters are about 0.55 em wide."""
    return textwrap.fill(text, max(10, int(inches * 72 / (0.55 * size))))


def legend_above(figure: Figure, ax: Axes, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend between the title and the axes, in as many columns as the figure has room for."""
    labels = [wrapped(label, figure.get_figwidth() - 1.5, 8.5) for label in labels]
    for columns in range(min(3, len(handles)), 0, -1):
        legend = ax.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderaxespad=0.2, fontsize=8.5
        )
        legend.set_in_layout(False)  # while it is measured: a legend that is too wide would squeeze the axes to nothing
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().x1 <= figure.bbox.x1:
            legend.set_in_layout(True)
            return


def label_ends(
    figure: Figure, ax: Axes, labels: Sequence[str], ends: Sequence[float], colors: Sequence[str], x: float
) -> None:
    """Write each label right of ``x`` (data) at its line's end height, moved apart where they would overlap.

    Where one had to move, hairlines join all labels to their lines' ends. The axis limits must be final.
    """
    size = 8.5
    figure.draw_without_rendering()  # settles the layout, so that the height below is the final one
    low, high = ax.get_ylim()
    gap = (high - low) * (1.3 * size / 72) / (ax.get_position().height * figure.get_figheight())
    heights = spread(ends, gap)
    moved = any(abs(height - end) > 0.25 * gap for height, end in zip(heights, ends, strict=True))
    for label, end, height, c in zip(labels, ends, heights, colors, strict=True):
        ax.annotate(
            label,
            xy=(x, end),
            xytext=(20 if moved else 6, height),
            textcoords=("offset points", "data"),
            color=c,
            fontsize=size,
            va="center",
            annotation_clip=False,
            # From the middle of the text's left edge.
            arrowprops={"arrowstyle": "-", "color": c, "lw": 0.6, "relpos": (0, 0.5), "shrinkA": 1, "shrinkB": 2}
            if moved
            else None,
        )


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Return ``positions`` moved as little as one pass allows until neighbours are at least ``gap`` apart.

    Overlapping neighbours join a block that is centred on the mean of its members (pooling of adjacent violators).
    """
    order = np.argsort(np.asarray(positions, float), kind="stable")
    blocks: list[list[int]] = []

    def centre(block: list[int]) -> float:
        return float(np.mean([positions[i] for i in block]))

    for i in order.tolist():
        blocks.append([i])
        while len(blocks) > 1:
            below, above = blocks[-2:]
            if centre(above) - centre(below) >= gap * (len(below) + len(above)) / 2:
                break
            blocks[-2:] = [below + above]
    placed = list(map(float, positions))
    for block in blocks:
        for rank, i in enumerate(block):
            placed[i] = centre(block) + gap * (rank - (len(block) - 1) / 2)
    return placed
