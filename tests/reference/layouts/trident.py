"""How TRIDENT, and what reads its files, takes a run's folder apart; from the documented layout, with h5py only."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

NEEDED = ("patch_size", "level0_magnification", "target_magnification")


def read_coords(run: Path, slide: str) -> tuple[dict[str, Any], np.ndarray]:
    """Return the attributes and the corners of a slide's patches; a file without what TRIDENT asks for is refused."""
    with h5py.File(run / "patches" / f"{slide}_patches.h5", "r") as file:
        attributes, coords = dict(file["coords"].attrs), file["coords"][:]
    missing = [name for name in NEEDED if attributes.get(name) is None]
    assert not missing, missing
    return attributes, coords


def region_px(attributes: dict[str, Any]) -> float:
    """Return the edge in pixels of level 0 that TRIDENT's patcher reads for one patch."""
    return attributes["patch_size"] * attributes["level0_magnification"] / attributes["target_magnification"]


def slide_batch(run: Path, encoder: str, slide: str) -> dict[str, Any]:
    """Return what a slide encoder is given: features and corners with a dimension before them, and the attributes."""
    with h5py.File(run / f"features_{encoder}" / f"{slide}.h5", "r") as file:
        return {
            "features": file["features"][:][None].astype(np.float32),
            "coords": file["coords"][:][None],
            "attributes": dict(file["coords"].attrs),
        }


def run_name(attributes: dict[str, Any]) -> str:
    """Return the name that TRIDENT gives to the folder of such a run."""
    magnification, edge, overlap = (attributes[name] for name in ("target_magnification", "patch_size", "overlap"))
    return f"{float(magnification):g}x_{edge}px_{overlap}px_overlap"
