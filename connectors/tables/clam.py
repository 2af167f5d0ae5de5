"""CLAM: what its trainers, and most others of multiple instances, load (``dataset_modules/dataset_generic.py``)."""

from collections.abc import Iterator

import numpy as np

from connectors.tables.bag import ABOUT, Bag
from connectors.tables.hdf5 import Dataset, encode_hdf5
from connectors.tables.protocol import TableContent, TableFile
from connectors.tables.tensor import encode_tensor


class ClamTable:
    """``h5_files/SLIDE.h5`` and ``pt_files/SLIDE.pt``.

    The HDF5 file: ``features`` (float32, (N, D)) and ``coords`` (int32, (N, 2), pixels of level 0) with the attributes
    ``patch_size`` and ``patch_level`` that CLAM's own patch files have. The tensor: the same features, and nothing of
    where they come from: the provenance is in the HDF5 file.
    """

    name = "clam"

    def write(self, content: TableContent) -> Iterator[TableFile]:
        """Yield both files; CLAM takes the tensor for the sign that a slide is done, so it is the last."""
        bag = Bag.of(self.name, content)
        where = {"patch_size": bag.patch_px, "patch_level": bag.provenance.level}
        marks = bag.embeddings.fallbacks
        datasets = {
            "features": Dataset(bag.embeddings.matrix),
            "coords": Dataset(bag.corners_px.astype(np.int32), where),
            **({} if marks is None else {"fallback": Dataset(marks)}),
        }
        yield TableFile(f"{bag.folder}/h5_files/{bag.slide}.h5", encode_hdf5(datasets, {ABOUT: bag.about_json}))
        yield TableFile(f"{bag.folder}/pt_files/{bag.slide}.pt", encode_tensor(bag.embeddings.matrix))


TABLE = ClamTable()
