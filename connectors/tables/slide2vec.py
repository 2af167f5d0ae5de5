"""slide2vec: its artefacts of tile embeddings, and the tiles of hs2p that they go with.

Held to slide2vec 7.1 (``artifacts.py``) and hs2p 6.1 (``tiling/io.py``), whose reader refuses a key too many as well as
one too few.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from connectors.tables.archive import encode_npz
from connectors.tables.bag import ABOUT, Bag
from connectors.tables.protocol import TableContent, TableFile
from connectors.tables.tensor import encode_tensor
from models.domain.errors import ResultError


class Slide2vecTable:
    """``tile_embeddings/SLIDE.pt`` and ``.meta.json``, ``tiles/SLIDE.coordinates.npz`` and ``.meta.json``.

    Tiles: ``x``, ``y`` (int64, pixels of level 0), ``tile_index`` (int32), ``tissue_fractions`` (float32, NaN:
    Slidewire keeps none a patch). Both are ordered as hs2p does, by x, then y. Paths in the JSON are relative to the
    layout's folder, which is what slide2vec is to be run in. What of hs2p's settings has no meaning here is null. The
    provenance is in the JSON of the embeddings, with the places of fallbacks in this order.
    """

    name = "slide2vec"

    def write(self, content: TableContent) -> Iterator[TableFile]:
        """Yield the four files; an artefact's JSON, which is the sign that it is whole, after what it describes.

        Raises
        ------
        ResultError
            The spacing is unknown: hs2p has no tiles without one.
        """
        bag = Bag.of(self.name, content)
        tiles, embeddings = f"tiles/{bag.slide}.coordinates", f"tile_embeddings/{bag.slide}"
        settings = _json(_tiling(bag))
        x, y = bag.corners_px.T
        order = np.lexsort((y, x))
        arrays = {
            "tile_index": np.arange(len(order), dtype=np.int32),
            "x": x[order],
            "y": y[order],
            "tissue_fractions": np.full(len(order), np.nan, np.float32),
        }
        yield TableFile(f"{bag.folder}/{tiles}.npz", encode_npz(arrays))
        yield TableFile(f"{bag.folder}/{tiles}.meta.json", settings)
        yield TableFile(f"{bag.folder}/{embeddings}.pt", encode_tensor(bag.embeddings.matrix, order))
        marks = bag.embeddings.fallbacks
        about = bag.about if marks is None else {**bag.about, "fallbacks": np.flatnonzero(marks[order]).tolist()}
        described = {
            **_artifact(bag),
            "coordinates_npz_path": f"{tiles}.npz",
            "coordinates_meta_path": f"{tiles}.meta.json",
            ABOUT: about,
        }
        yield TableFile(f"{bag.folder}/{embeddings}.meta.json", _json(described))


TABLE = Slide2vecTable()


def _artifact(bag: Bag) -> dict[str, Any]:
    return {
        "sample_id": bag.slide,
        "artifact_type": "tile_embeddings",
        "format": "pt",
        "feature_dim": bag.embeddings.dimension,
        "feature_dtype": "fp32",
        "num_tiles": len(bag.embeddings),
        "annotation": None,
        "encoder_name": bag.provenance.encoder,
        "encoder_level": "tile",
        "tiles_tar_path": "",
        "image_path": bag.slide,
        "mask_path": None,
        "tile_size_lv0": bag.patch_level_0_px[0],
        "backend": ABOUT,
        "read_tile_size_px": bag.patch_px,
        "requested_tile_size_px": bag.patch_px,
        "encoder_input_size_px": None,
        "requested_spacing_um": _requested_um(bag),
        "compatibility": {},
    }


def _spacing_um(bag: Bag) -> float:
    if bag.provenance.spacing_um is None:
        raise ResultError(
            "The layout slide2vec needs a spacing, and the slide's is unknown: take the layout clam, numpy or parquet, "
            "or give the slide a spacing."
        )
    return bag.provenance.spacing_um[0]


def _requested_um(bag: Bag) -> float:
    return bag.provenance.requested_spacing_um or _spacing_um(bag)


def _tiling(bag: Bag) -> dict[str, Any]:
    about = bag.provenance
    level_0_um = about.level_0_spacing_um[0] if about.level_0_spacing_um else None
    return {
        "provenance": {
            "sample_id": bag.slide,
            "image_path": bag.slide,
            "backend": ABOUT,
            "requested_backend": ABOUT,
            "spacing_at_level_0": level_0_um,
            **dict.fromkeys(("mask_path", "mask_backend", "requested_mask_backend")),
        },
        "slide": {"dimensions": about.slide_px, "base_spacing_um": level_0_um, "level_downsamples": None},
        "tiling": {
            "requested_tile_size_px": bag.patch_px,
            "requested_spacing_um": _requested_um(bag),
            "read_level": about.level,
            "read_tile_size_px": bag.patch_px,
            "read_spacing_um": _spacing_um(bag),
            "tile_size_lv0": bag.patch_level_0_px[0],
            "tolerance": None,
            "step_px_lv0": round(bag.stride_px * about.level_scale[0]),
            "overlap": 1 - bag.stride_px / bag.patch_px,
            "min_tissue_fraction": about.tissue_fraction or 0.0,
            "is_within_tolerance": True,
            "n_tiles": len(bag.embeddings),
        },
        "segmentation": dict.fromkeys(_SEGMENTATION) | {"tissue_method": ABOUT},
        "filtering": dict.fromkeys(_FILTERING),
        "artifact": {
            "coordinate_space": "level0_px",
            "tile_order": "x_then_y",
            **dict.fromkeys(("annotation", "selection_strategy", "output_mode")),
        },
    }


_SEGMENTATION = (
    "tissue_method", "requested_seg_downsample", "seg_downsample", "seg_level", "seg_spacing_um", "sthresh",
    "sthresh_up", "mthresh", "close", "sam2_checkpoint_path", "sam2_config_path", "mask_path", "ref_tile_size_px",
    "tissue_mask_tissue_value", "mask_level", "mask_spacing_um",
)  # fmt: skip
_FILTERING = (
    "a_t", "a_h", "filter_white", "filter_black", "white_threshold", "black_threshold", "fraction_threshold",
    "filter_grayspace", "grayspace_saturation_threshold", "grayspace_fraction_threshold", "filter_blur",
    "blur_threshold", "qc_spacing_um",
)  # fmt: skip


def _json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
