"""The figures of a page: pictures of the slide, of the embeddings and of patches, and charts."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worker.report import charts, overlay
from worker.report.charts import Chart
from worker.report.clusters import Clusters
from worker.report.picture import corners_of, draw_slide, paint_map, panel_size, resized, spread_colours
from worker.report.samples import EXAMPLE_PX
from worker.report.story import Story

_QUALITY = 88
_GAP_PX = 8

Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure.

    Parameters
    ----------
    name : str
        Of its file, without the suffix.
    png : bytes
    inline : str
        HTML that shows it without any file: an ``img`` with a data URI, or an ``svg``.
    """

    name: str
    png: bytes
    inline: str


def figures_of(story: Story) -> dict[str, Figure]:
    """Return the figures that there are for a job, by name."""
    made = [*_pictures(story), *_of_clusters(story), *_of_patches(story), *_of_time(story)]
    return {figure.name: figure for figure in made}


def example_images(story: Story) -> tuple[tuple[str, ...], ...]:
    """Return the example patches of each cluster as HTML."""
    shown = story.seen.samples.examples if story.seen else ()
    return tuple(
        tuple(_image(patch, f"Patch {place} of cluster {number}", jpeg=True) for place, patch in enumerate(patches, 1))
        for number, patches in enumerate(shown, 1)
    )


def _pictures(story: Story) -> Iterator[Figure]:
    plan, places = story.plan, story.places
    finest = plan.slide.levels[0]
    size = panel_size(finest.height_px, finest.width_px)
    if story.seen is not None:
        size = panel_size(*story.seen.thumbnail.shape[:2])
        slide = draw_slide(resized(story.seen.thumbnail, size), plan, places, story.share, story.seen.tissue)
        yield _pictured("slide", slide, f"The slide with the outline of its {len(places):,} patches", jpeg=True)
    if story.embeddings is None or not len(story.embeddings):
        return
    colours = None if story.clusters is None else spread_colours(story.clusters.points)
    painted = paint_map(plan, story.embeddings, size, story.share, colours)
    corners = corners_of(plan, story.embeddings, size, story.share)
    if story.embeddings.fallbacks is not None:
        overlay.mark(painted, corners[story.embeddings.fallbacks])
    yield _pictured("map", painted, "Map of the embeddings: like colours where the model finds like tissue")
    if story.clusters is not None:
        yield _pictured("clusters", _cluster_map(story, story.clusters, size), "Map of the clusters, by their numbers")


def _cluster_map(story: Story, clusters: Clusters, size: tuple[int, int]) -> Picture:
    inks = np.asarray([list(bytes.fromhex(colour[1:])) for colour in charts.CLUSTER_COLOURS], np.uint8)
    painted = paint_map(story.plan, story.places, size, story.share, inks[clusters.of])
    numbered = painted.copy()
    for place in range(clusters.count):
        overlay.number(numbered, (painted == inks[place]).all(axis=2), str(place + 1))
    return numbered


def _of_clusters(story: Story) -> Iterator[Figure]:
    if story.clusters is None or story.embeddings is None:
        return
    count = story.clusters.count
    yield _charted("scatter", charts.scatter(story.clusters, f"Scatter of two principal components, {count} clusters"))
    matrix, holes = story.embeddings.matrix, story.embeddings.holes
    norms = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64))[~holes]
    alt = f"Histogram of the lengths of the embeddings: {norms.min():.3g} to {norms.max():.3g}"
    yield _charted("norms", charts.histogram("norms", norms, "length of an embedding (Euclidean)", alt))


def _of_patches(story: Story) -> Iterator[Figure]:
    if story.seen is None or not len(story.seen.samples.appearance):
        return
    seen = story.seen.samples
    stains = seen.appearance.stains[~np.isnan(seen.appearance.stains).any(axis=1)]
    if len(stains):
        alt = "Histograms of the amounts of haematoxylin (median {:.2f}) and eosin (median {:.2f})"
        yield _charted("stain", charts.stains(stains, alt.format(*np.median(stains, axis=0))))
    sharp = seen.appearance.sharpness
    alt = f"Histogram of the sharpness of the patches, median {np.median(sharp):.3g}"
    yield _charted("focus", charts.histogram("focus", sharp, "variance of the Laplacian", alt, log=True))
    if any(seen.examples):
        yield Figure("examples", _png(_sheet(seen.examples)), "")


def _of_time(story: Story) -> Iterator[Figure]:
    if story.timeline.spans:
        alt = f"When which of {story.timeline.workers} workers had a shard, over {story.timeline.took_s:.0f} seconds"
        yield _charted("timeline", charts.gantt(story.timeline, alt))


def _sheet(examples: tuple[tuple[Picture, ...], ...]) -> Picture:
    """Return the examples of all clusters, a row each."""
    step = EXAMPLE_PX + _GAP_PX
    columns = max(len(patches) for patches in examples)
    sheet = np.full((len(examples) * step + _GAP_PX, columns * step + _GAP_PX, 3), 255, np.uint8)
    for row, patches in enumerate(examples):
        for column, patch in enumerate(patches):
            top, left = row * step + _GAP_PX, column * step + _GAP_PX
            sheet[top : top + EXAMPLE_PX, left : left + EXAMPLE_PX] = patch
    return sheet


def _charted(name: str, chart: Chart) -> Figure:
    return Figure(name, chart.png, chart.svg)


def _pictured(name: str, picture: Picture, alt: str, *, jpeg: bool = False) -> Figure:
    return Figure(name, _png(picture), _image(picture, alt, jpeg=jpeg))


def _png(picture: Picture) -> bytes:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def _image(picture: Picture, alt: str, *, jpeg: bool = False) -> str:
    content = _png(picture)
    if jpeg:
        buffer = BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=_QUALITY)
        content = buffer.getvalue()
    kind, data = "jpeg" if jpeg else "png", base64.b64encode(content).decode()
    height, width = picture.shape[:2]
    return f'<img alt="{escape(alt)}" width="{width}" height="{height}" src="data:image/{kind};base64,{data}">'
