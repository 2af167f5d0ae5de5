"""Charts: as SVG whose ink follows the page's colours, and as PNG on white; the same for the same numbers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from worker.report.clusters import Clusters
from worker.report.timeline import Timeline

CLUSTER_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's; yellow and black would vanish on one of the two backgrounds."""
_MARKERS = "os^DvP"
_GOOD, _BAD, _OTHER = CLUSTER_COLOURS[0], CLUSTER_COLOURS[1], CLUSTER_COLOURS[2]
_WIDTH_IN, _HEIGHT_IN = 4.5, 3.3
_MOST_POINTS = 3000
_MOST_ROWS = 16
_DPI = 200
_UNDATED = {"Date": None, "Creator": None}
_UNSIGNED = {"Software": None}
_STYLE = {
    "svg.hashsalt": "slidewire",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.8,
}
_FONT = re.compile(r"'DejaVu Sans'[^;\"]*")
_ID = re.compile(r'(\bid="|url\(#|href="#)')


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart.

    Parameters
    ----------
    svg : str
        An ``svg`` element, to stand in a page that declares ``--ink``, ``--rule`` and ``--surface``.
    png : bytes
        The same on white.
    """

    svg: str
    png: bytes


@dataclass(frozen=True, slots=True)
class _Ink:
    """Colours that are not data."""

    ink: str
    rule: str
    surface: str


_PAPER = _Ink("#1c2127", "#d5d9de", "#ffffff")
_SCREEN = _Ink("#010203", "#010204", "#010205")  # stand for what the page declares
_DECLARED = {_SCREEN.ink: "var(--ink)", _SCREEN.rule: "var(--rule)", _SCREEN.surface: "var(--surface)"}

_Draw = Callable[[Axes, _Ink], None]


def _chart(name: str, alt: str, draw: _Draw, height_in: float = _HEIGHT_IN) -> Chart:
    svg, png = BytesIO(), BytesIO()
    _save(
        draw, height_in, _SCREEN, lambda figure: figure.savefig(svg, format="svg", transparent=True, metadata=_UNDATED)
    )
    _save(draw, height_in, _PAPER, lambda figure: figure.savefig(png, format="png", dpi=_DPI, metadata=_UNSIGNED))
    return Chart(_inline(svg.getvalue().decode(), name, alt), png.getvalue())


def _save(draw: _Draw, height_in: float, ink: _Ink, save: Callable[[Figure], None]) -> None:
    inked = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), ink.ink)
    faces = {"axes.facecolor": "none", "figure.facecolor": ink.surface, "grid.color": ink.rule}
    style: dict[Any, Any] = {**_STYLE, **inked, **faces}
    with mpl.rc_context(style):
        figure = Figure((_WIDTH_IN, height_in), layout="constrained")
        draw(figure.add_subplot(), ink)
        save(figure)


def _inline(svg: str, name: str, alt: str) -> str:
    """Return the element alone, with ids of its own, the page's colours and font, and words for who cannot see it."""
    body = svg[svg.index("<svg") :].strip()
    # Its style would be that of the whole page; what it says, the page's own style says.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = _ID.sub(rf"\g<1>{name}-", body)
    body = _FONT.sub("system-ui, sans-serif", body)
    for sentinel, declared in _DECLARED.items():
        body = body.replace(sentinel, declared)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    return body.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)


def scatter(clusters: Clusters, alt: str) -> Chart:
    """Draw the first two principal components, each cluster with a colour, a marker and its number."""

    def draw(axes: Axes, ink: _Ink) -> None:
        step = max(1, len(clusters.of) // _MOST_POINTS)
        points, of = clusters.points[::step], clusters.of[::step]
        for number in range(clusters.count):
            mine = points[of == number]
            [marks] = axes.plot(mine[:, 0], mine[:, 1], ls="", marker=_MARKERS[number], color=CLUSTER_COLOURS[number])
            marks.set(markersize=4.4, markeredgecolor=ink.ink, markeredgewidth=0.3, alpha=0.85)
        for number in range(clusters.count):
            x, y = np.median(clusters.points[clusters.of == number, :2], axis=0)
            box = {"boxstyle": "circle,pad=0.22", "fc": ink.surface, "ec": CLUSTER_COLOURS[number], "lw": 2}
            axes.text(x, y, str(number + 1), ha="center", va="center", weight="bold", bbox=box)
        first, second = (f"{100 * share:.0f} % of the variance" for share in clusters.explained)
        axes.set_xlabel(f"component 1 ({first})")
        axes.set_ylabel(f"component 2 ({second})")

    return _chart("scatter", alt, draw, 4.7)


def histogram(name: str, values: NDArray[np.float64], label: str, alt: str, *, log: bool = False) -> Chart:
    """Draw how often values occur; on a logarithmic axis where they span decades."""
    series = {"": values}
    return _chart(name, alt, lambda axes, ink: _bars(axes, ink, series, label, log=log))


def stains(values: NDArray[np.float64], alt: str) -> Chart:
    """Draw how much haematoxylin and eosin patches hold: float64, shape (N, 2)."""
    series = {"haematoxylin": values[:, 0], "eosin": values[:, 1]}
    return _chart("stain", alt, lambda axes, ink: _bars(axes, ink, series, "amount (optical density)"))


def _bars(axes: Axes, ink: _Ink, series: dict[str, NDArray[np.float64]], label: str, *, log: bool = False) -> None:
    joined = np.concatenate(list(series.values()))
    low, high = (float(joined.min()), float(joined.max())) if len(joined) else (0.0, 1.0)
    if high - low <= 1e-6 * max(abs(low), abs(high), 1e-6):  # all equal: a bar of its own
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    log = log and low > 0
    edges = np.geomspace(low, high, 25) if log else np.linspace(low, high, 25)
    for number, (name, values) in enumerate(series.items()):
        counts = np.histogram(values, edges)[0]
        colour, dashed = ((_GOOD, "-"), (_BAD, "--"))[number]
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28)
        axes.stairs(counts, edges, color=colour, lw=1.8, ls=dashed, label=name)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)
    axes.set_ylabel("patches")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", lw=0.6)
    axes.set_axisbelow(True)
    if len(series) > 1:
        axes.legend(frameon=False, labelcolor=ink.ink)


def gantt(timeline: Timeline, alt: str) -> Chart:
    """Draw who worked when: a row a worker, a bar a shard; what failed is hatched and crossed."""
    shown = min(timeline.workers, _MOST_ROWS)

    def draw(axes: Axes, ink: _Ink) -> None:
        axes.barh(-1, timeline.waited_s or 0, height=0.5, color="none", ec=ink.ink, lw=0.8, ls=":")
        for span in timeline.spans:
            if span.worker > shown:
                continue
            colour, hatch = _look(span.kind, span.event)
            width = max(span.end_s - span.start_s, timeline.took_s / 400)
            bars = axes.barh(span.worker - 1, width, left=span.start_s, height=0.66)
            for bar in bars:
                bar.set(facecolor=colour, edgecolor=ink.surface, linewidth=0.8, hatch=hatch)
        axes.set_yticks(range(-1, shown), ["queue", *(f"worker {number}" for number in range(1, shown + 1))])
        axes.set_ylim(shown - 0.4, -1.6)
        axes.set_xlim(0, timeline.took_s or 1)
        axes.set_xlabel("seconds since the submission")
        axes.grid(axis="x", lw=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)

    return _chart("timeline", alt, draw, 1.25 + 0.3 * shown)


def _look(kind: str, event: str) -> tuple[str, str | None]:
    if event not in {"completed", "running"}:
        return _BAD, "xxxx"
    return (_GOOD, None) if kind == "embed" else (_OTHER, "//")
