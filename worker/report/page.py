"""The page about a job: one HTML file that needs nothing else, and its figures as PNG files beside it."""

import hashlib
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from connectors.sinks.files import put
from models.domain.embedding import Output
from worker.report.charts import CLUSTER_COLOURS
from worker.report.facts import facts_of
from worker.report.figures import Figure, example_images, figures_of
from worker.report.samples import LOOKED_AT
from worker.report.story import Story

PAGE_FILE = "report.html"


@dataclass(frozen=True, slots=True)
class _Cluster:
    number: int
    size: int
    percent: float
    colour: str
    examples: tuple[Markup, ...]


def write_report(story: Story, folder: str) -> tuple[Output, ...]:
    """Write page and figures into a folder or to a bucket URI; the same story gives the same bytes.

    Returns
    -------
    tuple of Output
        The page first.

    Raises
    ------
    OutputUnwritable
    """
    figures = figures_of(story)
    files = {PAGE_FILE: render(story, figures).encode()}
    files |= {f"{figure.name}.png": figure.png for figure in figures.values()}
    written = []
    for name, content in files.items():
        uri = f"{folder.rstrip('/')}/{name}"
        put(uri, content)
        kind = "page" if name == PAGE_FILE else "picture"
        written.append(Output(kind, uri, hashlib.sha256(content).hexdigest()))
    return tuple(written)


def render(story: Story, figures: dict[str, Figure]) -> str:
    """Return the page; everything that comes from outside is escaped, and it refers to nothing outside itself."""
    environment = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        story=story,
        facts=facts_of(story),
        # Made here and in `charts`, where what comes from outside is escaped.
        figures={name: Markup(figure.inline) for name, figure in figures.items()},  # noqa: S704
        clusters=_clusters(story),
        fallbacks=0 if story.places.fallbacks is None else int(story.places.fallbacks.sum()),
        holes=int(story.places.holes.sum()),
        looked_at=min(LOOKED_AT, len(story.seen.samples.appearance)) if story.seen else 0,
    )


def _clusters(story: Story) -> tuple[_Cluster, ...]:
    if story.clusters is None:
        return ()
    images = example_images(story)
    made = []
    for number in range(story.clusters.count):
        count = story.clusters.size(number)
        shown = tuple(Markup(image) for image in images[number]) if images else ()  # noqa: S704 - made by `figures`
        percent = 100 * count / len(story.clusters.of)
        made.append(_Cluster(number + 1, count, percent, CLUSTER_COLOURS[number], shown))
    return tuple(made)


def _read(name: str) -> str:
    return resources.files("worker.report").joinpath(name).read_text("utf-8")
