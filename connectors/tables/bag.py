"""A bag: what layouts that go by slide need of a result; patches of one size, corners in pixels of level 0."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.tables.protocol import TableContent
from models.domain.embedding import Embeddings, Provenance
from models.domain.errors import ResultError
from models.domain.slide import safe_name

ABOUT = "slidewire"
"""Under this name a file keeps its provenance, as JSON."""


@dataclass(frozen=True, slots=True)
class Bag:
    """The patches of a slide that have an embedding, and what files and folders of them are called.

    Parameters
    ----------
    folder : str
        ``LAYOUT-RECIPE``, below the output folder: slides that were embedded alike share it, others do not.
    slide : str
        File-name-safe.
    encoder : str
        File-name-safe.
    embeddings : Embeddings
        Without holes: no tool of the field knows of any.
    corners_px : int64 array, shape (N, 2)
        Upper left corners (x, y) in pixels of level 0.
    patch_px : int
        Edge of a patch in pixels of the level that was read.
    patch_level_0_px : (int, int)
        Width and height of a patch in pixels of level 0.
    provenance : Provenance
    about : dict
        The provenance, the digest of the embeddings and how many holes were left out; JSON-ready.
    """

    folder: str
    slide: str
    encoder: str
    embeddings: Embeddings
    corners_px: NDArray[np.int64]
    patch_px: int
    patch_level_0_px: tuple[int, int]
    provenance: Provenance
    about: dict[str, Any]

    @classmethod
    def of(cls, layout: str, content: TableContent) -> "Bag":
        """Return what a layout needs of a table's content.

        Raises
        ------
        ResultError
            The patches are no squares of one size, or that is unknown.
        """
        provenance = content.provenance
        whole, about = described(content)
        edge_px = _edge(layout, whole, provenance)
        recipe = provenance.recipe or provenance.result_key
        return cls(
            folder=f"{layout}-{safe_name(recipe[:8])}",
            slide=safe_name(content.slide or content.name),
            encoder=safe_name(provenance.encoder or "encoder"),
            embeddings=whole,
            corners_px=np.rint(whole.positions_px).astype(np.int64),
            patch_px=edge_px,
            patch_level_0_px=(round(edge_px * provenance.level_scale[0]), round(edge_px * provenance.level_scale[1])),
            provenance=provenance,
            about=about,
        )

    @property
    def about_json(self) -> str:
        """The text that a file keeps under `ABOUT`."""
        return to_json(self.about)

    @property
    def stride_px(self) -> int:
        """Distance of neighbours in pixels of the level; a patch's edge if it is unknown."""
        return self.provenance.stride_px or self.patch_px


def described(content: TableContent) -> tuple[Embeddings, dict[str, Any]]:
    """Return the embeddings without holes (not copied if there are none), and what a file says about them."""
    embeddings = content.embeddings
    holes = int(embeddings.holes.sum())
    whole = embeddings.whole() if holes else embeddings
    return whole, {**content.provenance.to_json(), "embeddings_sha256": whole.digest, "holes": holes}


def to_json(about: dict[str, Any]) -> str:
    """Return JSON that is the same for the same data."""
    return json.dumps(about, sort_keys=True, allow_nan=False)


def _edge(layout: str, embeddings: Embeddings, provenance: Provenance) -> int:
    sizes = np.unique(embeddings.boxes[:, 2:])
    if len(sizes) > 1:
        raise ResultError(
            f"The layout {layout} holds squares of one size, and these patches measure from {sizes[0]} to {sizes[-1]} "
            "px: take the layout parquet or numpy."
        )
    edge_px = int(sizes[0]) if len(sizes) else provenance.patch_px
    if edge_px <= 0:
        raise ResultError(f"The layout {layout} needs the size of the patches: take the layout parquet or numpy.")
    return edge_px
