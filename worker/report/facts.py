"""The facts of a page in words: what was asked, what came of it, how long it took, with what it was made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from worker.ledger import Incident, JobState
from worker.report.stored import size_of
from worker.report.story import Story

_MOST_NOTES, _LONGEST_NOTE, _MOST_INCIDENTS = 50, 600, 40
_STEPS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))

Fact = tuple[str, str]
"""A name and a value."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a page says in words.

    Parameters
    ----------
    headline, asked, times, made_with : tuple of Fact
    notes : tuple of str
    outputs : tuple of (str, str, str, str)
        Kind, file name or place, size, digest.
    incidents : tuple of (str, str, str, str)
        When, which shard, what, why.
    """

    headline: tuple[Fact, ...]
    asked: tuple[Fact, ...]
    times: tuple[Fact, ...]
    made_with: tuple[Fact, ...]
    notes: tuple[str, ...]
    outputs: tuple[tuple[str, str, str, str], ...]
    incidents: tuple[tuple[str, str, str, str], ...]


def facts_of(story: Story) -> Facts:
    """Return the facts of a job; nothing of the slide's header, no place but files' names."""
    incidents = story.timeline.incidents
    shown = tuple(_incident(one, story.job.created_at) for one in incidents[-_MOST_INCIDENTS:])
    if len(incidents) > len(shown):
        shown = (("", "", f"{len(incidents) - len(shown)} earlier ones", "see slidewire jobs show"), *shown)
    return Facts(
        headline=_headline(story),
        asked=_asked(story),
        times=_times(story),
        made_with=_made_with(story),
        notes=_notes(story.provenance.notes),
        outputs=_outputs(story),
        incidents=shown,
    )


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: int | None) -> str:
    """Return a number of bytes as people say it; of None, nothing."""
    if count is None:
        return ""
    return next((f"{count / step:.1f} {unit}" for step, unit in _STEPS if count >= step), f"{count} B")


def _headline(story: Story) -> tuple[Fact, ...]:
    job, places = story.job, story.places
    done = f"{job.patches:,}" if job.state is JobState.SUCCEEDED else f"{job.patches_done:,} of {job.patches:,}"
    facts = [("patches", done), ("spacing", _spacing(story.plan.grid.spacing_um))]
    facts.append(("numbers a patch", f"{story.provenance.dimension:,}"))
    facts.append(("holes", f"{job.holes:,}"))
    if places.fallbacks is not None:
        facts.append(("fallbacks", f"{int(places.fallbacks.sum()):,}"))
    if (rate := _rate(story)) is not None:
        facts.append(("speed", rate))
    if story.timeline.spans:
        facts.append(("time in all", duration(story.timeline.took_s)))
    return tuple(facts)


def _rate(story: Story) -> str | None:
    busy_s = story.timeline.busy_s("embed")
    return f"{story.job.patches_done / busy_s:,.0f} patches/s" if busy_s and story.job.patches_done else None


def _spacing(spacing_um: tuple[float, float] | None) -> str:
    return f"{min(spacing_um):.3g} \u00b5m/px" if spacing_um else "unknown"


def _asked(story: Story) -> tuple[Fact, ...]:
    spec, output = story.request.patches, story.request.output
    wanted = "native" if spec.spacing_um is None else f"{spec.spacing_um:g} \u00b5m/px"
    places = [
        "a folder or bucket" if output.folder else "",
        "the PACS" if output.write_back else "",
        "DICOM files" if output.dicom_files else "",
    ]
    if spec.coordinates is not None:
        chosen = f"{len(spec.coordinates):,} given coordinates"
    elif spec.tissue_fraction is None:
        chosen = "all of the grid"
    else:
        chosen = f"at least {100 * spec.tissue_fraction:g} % tissue ({spec.tissue_method})"
    return (
        ("encoder", story.request.encoder),
        ("options", ", ".join(f"{name}={value}" for name, value in story.request.options) or "none"),
        ("patch, stride", f"{spec.patch_px} px, {spec.step_px} px"),
        ("spacing", wanted),
        ("which patches", chosen),
        ("of the grid", f"{len(story.plan.grid):,} of {story.plan.grid_patches:,}"),
        ("missing frames", "a hole in the result" if spec.missing == "mask" else "an error"),
        ("colours", "as they are" if spec.color_profile == "none" else spec.color_profile),
        ("tables", ", ".join(("parquet", *output.tables)) if output.folder else "none"),
        ("results go to", ", ".join(place for place in places if place)),
        ("lane", str(story.job.lane)),
    )


def _times(story: Story) -> tuple[Fact, ...]:
    line = story.timeline
    facts = [("submitted", _when(story.job.created_at))]
    if line.waited_s is None:
        return (*facts, ("first worker", "none has come yet"))
    facts.append(("waited in the queue", duration(line.waited_s)))
    facts.append(("embedding", duration(line.busy_s("embed"))))
    facts.append(("publishing", duration(line.busy_s("publish"))))
    facts.append(("shards embedded", f"{len({span.shard for span in line.spans if span.kind == 'embed'}):,}"))
    facts.append(("workers", f"{line.workers:,}"))
    facts.append(("tried again", f"{line.retries:,}"))
    facts.append(("incidents", f"{len(line.incidents):,}"))
    return tuple(facts)


def _made_with(story: Story) -> tuple[Fact, ...]:
    made = story.provenance
    finest = story.plan.slide.levels[0]
    return (
        ("model", made.encoder),
        ("revision", made.encoder_revision),
        ("licence", made.encoder_licence),
        ("published at", made.encoder_source),
        ("weights, sha256", made.weights_sha256 or "no weights"),
        ("pre-processing", made.preprocessing),
        ("slide", f"{finest.width_px:,} x {finest.height_px:,} px at {_spacing(finest.spacing_um)}"),
        ("level read", f"{made.level} (1:{made.level_scale[0]:g})"),
        ("result key", made.result_key),
        ("Slidewire", made.slidewire),
        ("job", story.job.id),
    )


def _notes(notes: Sequence[str]) -> tuple[str, ...]:
    shown = [note if len(note) <= _LONGEST_NOTE else f"{note[:_LONGEST_NOTE]} ..." for note in notes[:_MOST_NOTES]]
    if len(notes) > _MOST_NOTES:
        shown.append(f"... and {len(notes) - _MOST_NOTES:,} more: the table's metadata hold them all")
    return tuple(shown)


def _outputs(story: Story) -> tuple[tuple[str, str, str, str], ...]:
    listed = []
    for output in story.job.outputs:
        stored = bool(output.instance_uid) and output.uri.startswith(("http://", "https://"))
        where = "in the PACS" if stored else output.uri.rstrip("/").rpartition("/")[2]
        listed.append((output.kind, where, size(size_of(output)), output.sha256))
    return tuple(listed)


def _incident(one: Incident, created_at: float) -> tuple[str, str, str, str]:
    why = ": ".join(part for part in (one.code, one.detail) if part)
    return f"+{duration(max(0.0, one.at - created_at))}", f"{one.shard} ({one.kind})", one.event, why


def _when(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
