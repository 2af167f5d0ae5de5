"""STAMP: tile features for its trainers and slide encoders (``stamp/modeling/data.py``, ``stamp/encoding``)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from connectors.tables.bag import ABOUT, Bag, to_json
from connectors.tables.hdf5 import Dataset, encode_hdf5
from connectors.tables.protocol import TableContent, TableFile
from models.domain.errors import ResultError

_LARGEST = float(np.finfo(np.float16).max)


class StampTable:
    """``ENCODER/SLIDE.h5``: ``feats`` (float16, (N, D)) and ``coords`` (float32, (N, 2), micrometres).

    Attributes of the file: ``extractor``, ``unit``, ``tile_size_um``, ``tile_size_px``, ``feat_type``. There is no
    ``stamp_version``: STAMP refuses files of a version newer than its own, and this is of none. float16 is what STAMP
    keeps: of a value, 11 bits of 24 remain, which the provenance says under ``precision``.
    """

    name = "stamp"

    def write(self, content: TableContent) -> Iterator[TableFile]:
        """Yield the file.

        Raises
        ------
        ResultError
            The spacing is unknown, or a value is beyond what float16 holds.
        """
        bag = Bag.of(self.name, content)
        spacing_um, um = bag.provenance.spacing_um, bag.embeddings.positions_um
        if spacing_um is None or um is None:
            raise ResultError(
                "The layout stamp is in micrometres, and the slide's spacing is unknown: take the layout clam, numpy "
                "or parquet, or give the slide a spacing."
            )
        marks = bag.embeddings.fallbacks
        datasets = {
            "coords": Dataset(um.astype(np.float32)),
            "feats": Dataset(_halved(bag.embeddings.matrix)),
            **({} if marks is None else {"fallback": Dataset(marks)}),
        }
        attributes: dict[str, str | int | float] = {
            "extractor": bag.provenance.encoder or bag.encoder,
            "unit": "um",
            "tile_size_um": bag.patch_px * spacing_um[0],
            "tile_size_px": bag.patch_px,
            "feat_type": "tile",
            ABOUT: to_json({**bag.about, "precision": "float16"}),
        }
        yield TableFile(f"{bag.folder}/{bag.encoder}/{bag.slide}.h5", encode_hdf5(datasets, attributes))


TABLE = StampTable()


def _halved(matrix: NDArray[np.float32]) -> NDArray[np.float16]:
    largest = max(float(matrix.max(initial=0)), -float(matrix.min(initial=0)))
    if largest > _LARGEST:
        raise ResultError(
            f"The layout stamp holds float16, up to {_LARGEST:g}, and the largest value is {largest:g}: take another "
            "layout."
        )
    return matrix.astype(np.float16)
