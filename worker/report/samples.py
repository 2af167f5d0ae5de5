"""Patches that are read from the slide again: those near the clusters' centres, and a fixed sample of all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from connectors.protocols import Source
from models.domain.patch import PatchBatch
from models.domain.plan import Plan
from models.imaging.appearance import Appearance
from worker.pace import Pace, PaceLimits
from worker.pipeline import Limits, color_of
from worker.report.clusters import Clusters
from worker.stages.fetch import Fetching, fetch_groups
from worker.stages.transform import Cutting, cut_batches

LOOKED_AT = 200
EXAMPLES = 6
EXAMPLE_PX = 160
_BATCH_PX = 32 * 224 * 224  # of large patches fewer are in memory at a time


@dataclass(frozen=True, eq=False)
class Samples:
    """What was seen of some patches.

    Parameters
    ----------
    appearance : Appearance
        Of the sample.
    examples : tuple, one item a cluster, of tuples of uint8 arrays, shape (160, 160, 3)
        RGB; the patches nearest the centre, the nearest first.
    """

    appearance: Appearance = field(default_factory=lambda: Appearance.join([]))
    examples: tuple[tuple[NDArray[np.uint8], ...], ...] = ()


def take_samples(
    source: Source, plan: Plan, limits: Limits, clusters: Clusters | None, rows: NDArray[np.int64]
) -> Samples:
    """Read patches of a slide again; those that cannot be had are left out.

    Parameters
    ----------
    source : Source
    plan : Plan
    limits : Limits
    clusters : Clusters or None
        Of the embeddings of `rows`; None: there are none.
    rows : int64 array, shape (N,)
        Rows of the result that have an embedding, or that are to be looked at for want of any.

    Raises
    ------
    SourceError, EndpointError
        The slide cannot be read.
    """
    looked_at = rows[np.unique(np.linspace(0, len(rows) - 1, min(LOOKED_AT, len(rows))).astype(np.int64))]
    near = [rows[clusters.nearest(number, EXAMPLES)] for number in range(clusters.count)] if clusters else []
    eye = _Eye(set(looked_at.tolist()), {row for each in near for row in each.tolist()})
    _show(source, plan, limits, np.union1d(looked_at, np.concatenate([rows[:0], *near])), eye)
    examples = (tuple(eye.small[row] for row in each.tolist() if row in eye.small) for each in near)
    return Samples(Appearance.join(eye.seen), tuple(examples))


class _Eye:
    """Keeps of the patches that it is shown what is wanted, and no more."""

    def __init__(self, looked_at: set[int], kept: set[int]) -> None:
        self._looked_at, self._kept = looked_at, kept
        self.seen: list[Appearance] = []
        self.small: dict[int, NDArray[np.uint8]] = {}

    def look(self, batch: PatchBatch, rows: Sequence[int]) -> None:
        """Look at the patches of a batch; `rows` of the result are what its places are."""
        there = [place for place in range(batch.count) if place not in batch.holes]
        sample = [place for place in there if rows[place] in self._looked_at]
        self.seen.append(Appearance.of(batch.pixels[sample]))
        self.small |= _small(batch.pixels, {rows[place]: place for place in there if rows[place] in self._kept})


def _small(pixels: NDArray[np.uint8], places: Mapping[int, int]) -> dict[int, NDArray[np.uint8]]:
    how = cv2.INTER_AREA if pixels.shape[1] > EXAMPLE_PX else cv2.INTER_LINEAR
    size = (EXAMPLE_PX, EXAMPLE_PX)
    return {row: np.asarray(cv2.resize(pixels[place], size, interpolation=how)) for row, place in places.items()}


def _show(source: Source, plan: Plan, limits: Limits, rows: NDArray[np.int64], eye: _Eye) -> None:
    read = np.flatnonzero(np.isin(plan.grid.rows, rows))
    if not len(read):
        return
    grid = replace(plan.grid, boxes=plan.grid.boxes[read], rows=plan.grid.rows[read])
    batch_size = max(1, min(32, _BATCH_PX // grid.patch_px**2))
    cutting = Cutting(grid.patch_px, batch_size, limits.decoders, holes=True, color=color_of(source, plan))
    pace = limits.pace or Pace(PaceLimits(limits.frames_a_request, limits.request_bytes))
    groups = fetch_groups(source, grid.level, grid, Fetching(pace, limits.connections, holes=True))
    for batch in cut_batches(groups, plan.level, cutting):
        start = batch.index * batch_size
        eye.look(batch, grid.rows[start : start + batch.count].tolist())
