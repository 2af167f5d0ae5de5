"""Embeddings that Slidewire did not write: what is known of them, and where they lie in the slide."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from connectors.dicom.readback.slide_levels import SlideLevel
from connectors.dicom.readback.stored import Origin, StoredEmbeddings
from models.domain.embedding import Embeddings, Provenance, ResultKey


@dataclass(frozen=True)
class ReadValues:
    """What one object holds, whoever wrote it.

    Parameters
    ----------
    matrix : float32 array, shape (N, D)
        A row with any value missing is all NaN.
    boxes : float64 array, shape (N, 4)
        x, y, width, height in pixels of the image.
    columns : tuple of str
    algorithm : (str, str)
        Name and version; "" where they are not given.
    origin : Origin
    level : SlideLevel or None
        The image that the boxes count in; None: it could not be had.
    notes : tuple of str
    """

    matrix: NDArray[np.float32]
    boxes: NDArray[np.float64]
    columns: tuple[str, ...]
    algorithm: tuple[str, str]
    origin: Origin
    level: SlideLevel | None
    notes: tuple[str, ...]

    def stored(self) -> StoredEmbeddings:
        """Return them in pixels of level 0, or with a note in those of the image."""
        level, notes = self.level, self.notes
        if level is None:
            notes = (*notes, "the slide could not be looked at: positions are in pixels of the image referred to")
        pixels = self.boxes[:, :2] * np.array(level.scale if level else (1.0, 1.0))
        spacing = level.finest_spacing_um if level else None
        embeddings = Embeddings(
            self.matrix,
            np.rint(self.boxes).astype(np.int32),
            pixels,
            None if spacing is None else pixels * np.array(spacing),
        )
        slide = self.origin.image_series_uid or self.origin.series_uid
        provenance = self._provenance(embeddings, notes)
        return StoredEmbeddings(embeddings, provenance, self.columns, notes, origin=self.origin, slide=slide)

    def _provenance(self, embeddings: Embeddings, notes: tuple[str, ...]) -> Provenance:
        sides = np.unique(embeddings.boxes[:, 2:])
        name, version = self.algorithm
        known = Provenance(
            result_key=ResultKey.of({"instance": self.origin.instance_uid, "values": embeddings.digest}).sha256,
            slidewire="",
            encoder=name,
            encoder_revision=version,
            encoder_licence="",
            encoder_source="",
            weights_sha256="",
            preprocessing="",
            dimension=embeddings.dimension,
            patch_px=int(sides[0]) if len(sides) == 1 else 0,
            stride_px=0,
            patches=len(embeddings),
            spacing_um=None,
            requested_spacing_um=None,
            level=0,
            level_scale=(1.0, 1.0),
            level_0_spacing_um=None,
            tissue_fraction=None,
            grid_patches=len(embeddings),
            notes=notes,
        )
        if self.level is None:
            return known
        return replace(
            known,
            level=self.level.index,
            level_scale=self.level.scale,
            level_0_spacing_um=self.level.finest_spacing_um,
            spacing_um=self.level.spacing_um,
            slide_px=self.level.finest_px,
        )
