"""NumPy: one ``.npz`` a result, for whoever wants arrays and nothing else."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.tables.archive import encode_npz
from connectors.tables.bag import described, to_json
from connectors.tables.protocol import TableContent, TableFile


class NumpyTable:
    """``NAME.npz``; `numpy.load` reads it without pickles.

    Arrays: ``features`` (float32, (N, D)), ``coords`` (int64, (N, 2): upper left corner (x, y) in pixels of level 0),
    ``boxes`` (int32, (N, 4): what was read, in pixels of the level), ``fallback`` (bool, (N,), only of an encoder that
    may fall back) and ``provenance`` (JSON, a text). Holes are left out, and counted in the provenance.
    """

    name = "numpy"

    def write(self, content: TableContent) -> Iterator[TableFile]:
        """Yield the file."""
        whole, about = described(content)
        arrays: dict[str, NDArray[Any]] = {
            "features": whole.matrix,
            "coords": np.rint(whole.positions_px).astype(np.int64),
            "boxes": whole.boxes,
            **({} if whole.fallbacks is None else {"fallback": whole.fallbacks}),
            "provenance": np.array(to_json(about)),
        }
        yield TableFile(f"{content.name}.npz", encode_npz(arrays))


TABLE = NumpyTable()
