"""How slide2vec 7.1 and hs2p 6.1 open a slide's artefacts; from the documented layout, with numpy and torch only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

SECTIONS = {"provenance": 8, "slide": 3, "tiling": 12, "segmentation": 16, "filtering": 13, "artifact": 5}
"""How many keys each section of the tiles' JSON has; hs2p refuses one more as well as one less."""


def load_embeddings(folder: Path, slide: str) -> tuple[dict[str, Any], torch.Tensor]:
    """Return the JSON and the tensor of an artefact."""
    about = json.loads((folder / "tile_embeddings" / f"{slide}.meta.json").read_text())
    features = torch.load(folder / "tile_embeddings" / f"{slide}.{about['format']}", weights_only=True)
    assert tuple(features.shape) == (about["num_tiles"], about["feature_dim"])
    return about, features


def load_tiles(folder: Path, about: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
    """Return the JSON and the corners of the tiles that an artefact's JSON names, relative to the run's folder."""
    settings = json.loads((folder / about["coordinates_meta_path"]).read_text())
    assert {name: len(section) for name, section in settings.items()} == SECTIONS
    with np.load(folder / about["coordinates_npz_path"], allow_pickle=False) as file:
        corners = np.stack([file["x"], file["y"]], axis=1)
        assert {name: str(file[name].dtype) for name in file.files} == {
            "x": "int64", "y": "int64", "tile_index": "int32", "tissue_fractions": "float32",
        }  # fmt: skip
        assert file["tile_index"].tolist() == list(range(settings["tiling"]["n_tiles"]))
        assert file["tissue_fractions"].shape == (len(corners),)
    return settings, corners
