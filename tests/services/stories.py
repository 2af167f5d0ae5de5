"""Stories of jobs as they might have gone, made without a ledger or a slide."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.domain.embedding import Output, Provenance
from models.domain.job import JobState, Lane
from models.domain.patch import Rows
from models.domain.plan import Plan
from models.domain.request import EmbedRequest, OutputSpec
from models.imaging.appearance import Appearance
from tests.services.memory_slide import make_grid, make_level, make_slide, random_pixels
from worker.ledger import Incident, JobRecord
from worker.report.clusters import find_clusters
from worker.report.samples import EXAMPLE_PX, Samples
from worker.report.story import Seen, Story
from worker.report.timeline import Timeline

_SIDE = 32
_STARTED = 1_800_000_000.0


def told(
    matrix: NDArray[np.float32] | None,
    count: int | None = None,
    fallbacks: NDArray[np.bool_] | None = None,
    state: JobState = JobState.SUCCEEDED,
) -> Story:
    """Return the story of a job with these embeddings (NaN rows are holes), or of `count` patches without any."""
    count = len(matrix) if matrix is not None else count or 0
    columns = max(1, int(np.ceil(np.sqrt(count))))
    level = make_level(columns * _SIDE, max(1, -(-count // columns)) * _SIDE)
    boxes = [(number % columns * _SIDE, number // columns * _SIDE, _SIDE, _SIDE) for number in range(count)]
    plan = Plan(make_slide(level), make_grid(boxes, _SIDE), count + 7, 8, ("a note of the plan",))
    embeddings = None if matrix is None else plan.assemble(Rows(matrix, fallbacks))
    whole = None if embeddings is None or embeddings.holes.all() else find_clusters(matrix[~embeddings.holes])  # type: ignore[index]
    thumbnail = random_pixels(level.width_px, level.height_px)
    tissue = np.ones((4, 4), bool)
    tissue[:2] = False
    seen = Seen(thumbnail, tissue, _samples(whole.count if whole else 0, count))
    provenance = _provenance(count, 0 if matrix is None else matrix.shape[1])
    request = EmbedRequest("slide", "encoder", OutputSpec("out"))
    holes = int(embeddings.holes.sum()) if embeddings else 0
    output = Output("parquet", "/nowhere/slide.parquet", "ab" * 32)
    job = JobRecord(
        "1f" * 16, "k", "5e" * 32, "encoder", state, Lane.STANDARD, {}, count, count, _STARTED, _STARTED + 9,
        "", "", (output,), holes,
    )  # fmt: skip
    return Story(job, request, provenance, plan, Timeline.of(job, _history()), embeddings, whole, seen, ())


def failed(story: Story, message: str) -> Story:
    """Return the story with another end, of which nothing is left and nothing can be seen."""
    job = replace(story.job, state=JobState.FAILED, error_code="SOURCE_INVALID", error_message=message, outputs=())
    missing = ("Nothing is shown of the embeddings: there are none.", "Nothing is shown of the slide itself: gone.")
    return replace(story, job=job, embeddings=None, clusters=None, seen=None, missing=missing)


def _samples(clusters: int, count: int) -> Samples:
    patches = np.random.default_rng(5).integers(40, 220, (min(count, 9), EXAMPLE_PX, EXAMPLE_PX, 3), np.uint8)
    return Samples(Appearance.of(patches), tuple(tuple(patches[:3]) for _ in range(clusters)))


def _history() -> tuple[Incident, ...]:
    events = [("claimed", 2.0), ("failed", 3.0), ("claimed", 4.0), ("completed", 8.0)]
    return tuple(
        Incident(0, "embed", 1 + number // 2, "host/1", event, "ENDPOINT_BUSY" * (event == "failed"), "", _STARTED + at)
        for number, (event, at) in enumerate(events)
    )


def _provenance(patches: int, dimension: int) -> Provenance:
    return Provenance(
        "5e" * 32, "0.0", "encoder", "r1", "a licence", "a source", "77" * 32, "v1", dimension, _SIDE, _SIDE, patches,
        (0.5, 0.5), 0.5, 0, (1.0, 1.0), (0.5, 0.5), 0.1, patches + 7, ("a note",),
    )  # fmt: skip
