"""How CLAM's data set loads a slide, by tensor or by HDF5; from the documented layout, with h5py and torch only."""

from pathlib import Path

import h5py
import numpy as np
import torch


def load_pt(folder: Path, slide: str) -> torch.Tensor:
    """Return the features."""
    features: torch.Tensor = torch.load(folder / "pt_files" / f"{slide}.pt", map_location="cpu", weights_only=True)
    return features


def load_h5(folder: Path, slide: str) -> tuple[torch.Tensor, np.ndarray]:
    """Return features and corners."""
    with h5py.File(folder / "h5_files" / f"{slide}.h5", "r") as file:
        return torch.from_numpy(file["features"][:]), file["coords"][:]


def patcher_settings(folder: Path, slide: str) -> tuple[int, int, int]:
    """Return patch size, level and further downsampling, as readers of CLAM's patch files take them."""
    with h5py.File(folder / "h5_files" / f"{slide}.h5", "r") as file:
        attributes = file["coords"].attrs
        return attributes["patch_size"], attributes["patch_level"], attributes.get("custom_downsample", 1)
