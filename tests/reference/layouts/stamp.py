"""How STAMP reads a slide's bag; from the documented layout, with h5py only."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np


@dataclass(frozen=True)
class StampBag:
    """Features as STAMP trains with them, and where the tiles lie."""

    features: np.ndarray
    coords_um: np.ndarray
    tile_size_um: float
    tile_size_px: int
    extractor: str
    feat_type: str
    stored: np.dtype


def read_bag(path: Path) -> StampBag:
    """Return a bag; a file that STAMP would take for one of its older or newer versions is refused."""
    with h5py.File(path, "r", libver="latest", swmr=True) as file:
        assert "tile_size" not in file.attrs, "of STAMP 2.0"
        assert "stamp_version" not in file.attrs, "checked against the installed STAMP"
        assert file.attrs["tile_size_um"], "historic: places are guessed from the stride"
        return StampBag(
            features=file["feats"][:].astype(np.float32),
            coords_um=file["coords"][:].astype(np.float32),
            tile_size_um=float(file.attrs["tile_size_um"]),
            tile_size_px=int(file.attrs["tile_size_px"]),
            extractor=str(file.attrs["extractor"]),
            feat_type=str(file.attrs["feat_type"]),
            stored=file["feats"].dtype,
        )
