"""Embeddings as they were read back from where they were stored."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.domain.embedding import Embeddings, Provenance


@dataclass(frozen=True, slots=True)
class Origin:
    """Where stored embeddings come from; "" is unknown.

    Parameters
    ----------
    study_uid, series_uid, instance_uid : str
        Of the object that held them; of several, the first.
    image_series_uid, image_class_uid, image_uid : str
        Series, SOP Class and SOP Instance UID of the image that the boxes count in.
    """

    study_uid: str = ""
    series_uid: str = ""
    instance_uid: str = ""
    image_series_uid: str = ""
    image_class_uid: str = ""
    image_uid: str = ""


@dataclass(frozen=True, slots=True)
class StoredEmbeddings:
    """Embeddings read back, with what is known of them.

    Parameters
    ----------
    embeddings : Embeddings
        Of Slidewire's own results as they were written, without the holes. Of others', boxes are rounded to whole
        pixels of the image they count in, and positions are exact; a row with any value missing is a hole (all NaN).
    provenance : Provenance
        As it was recorded. If the object is not Slidewire's, texts that are unknown are empty, and the result key
        is one of the object.
    columns : tuple of str
        What each component is called where it is stored.
    notes : tuple of str
        What had to be assumed, or was left out, on reading.
    digest_verified : bool
        Whether the values are those of a digest that was recorded with them; other writers record none.
    origin : Origin
    hole_boxes : int32 array, shape (M, 4), or None
        Boxes of the patches of Slidewire's result that have no embedding. Where they were among the others is not
        stored. None: unknown, or in `embeddings`.
    slide : str
        File-name-safe name of the slide: the series UID of the image, of a table what its file is called after; "" if
        unknown.
    """

    embeddings: Embeddings
    provenance: Provenance
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    digest_verified: bool = False
    origin: Origin = Origin()
    slide: str = ""
    hole_boxes: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def matrix(self) -> NDArray[np.float32]:
        """The values: float32, shape (N, D)."""
        return self.embeddings.matrix

    @property
    def boxes(self) -> NDArray[np.int32]:
        """x, y, width, height in pixels of the image: int32, shape (N, 4); points have no extent."""
        return self.embeddings.boxes

    @property
    def positions_px(self) -> NDArray[np.float64]:
        """Upper left corners (x, y) in pixels of level 0, or, as a note then says, of the image: shape (N, 2)."""
        return self.embeddings.positions_px

    @property
    def positions_um(self) -> NDArray[np.float64] | None:
        """The same in micrometres; None if the spacing is unknown."""
        return self.embeddings.positions_um

    @property
    def fallbacks(self) -> NDArray[np.bool_] | None:
        """Patches that were embedded without a step of the pre-processing; None: no such step, or unknown."""
        return self.embeddings.fallbacks

    @property
    def digest(self) -> str:
        """`Embeddings.digest`, of what was read."""
        return self.embeddings.digest

    @property
    def encoder(self) -> str:
        """As the object names it."""
        return self.provenance.encoder

    @property
    def encoder_revision(self) -> str:
        """As the object names it."""
        return self.provenance.encoder_revision
