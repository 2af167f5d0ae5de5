"""Embeddings read back from a table of Slidewire's: the Parquet file, or NumPy's ``.npz``."""

import json
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from connectors.dicom.readback.stored import StoredEmbeddings
from connectors.tables.parquet import METADATA_KEY, matrix_of, read_parquet, slide_of
from models.domain.embedding import Embeddings, Provenance
from models.domain.errors import EmbeddingInvalid, ResultCorrupt, ResultNotFound

SUFFIXES = (".parquet", ".npz")

_BOX = tuple(f"level_{name}" for name in ("x", "y", "width", "height"))
_ABOUT_THE_TABLE = ("embeddings_sha256", "holes")
_DAMAGE = (pa.ArrowException, zipfile.BadZipFile, OSError, EOFError, LookupError, TypeError, ValueError)


def read_table(content: bytes, path: PurePath) -> StoredEmbeddings:
    """Return the embeddings in a table, after a comparison with the digest that it records.

    Parameters
    ----------
    content : bytes
        Of the file.
    path : PurePath
        Its name, which holds the slide's, and its suffix: ``.parquet`` or ``.npz``.

    Raises
    ------
    ResultNotFound
        It is a table of somebody else's.
    ResultCorrupt
        It is damaged, or its values are not those of the digest.
    """
    try:
        embeddings, about = _of_parquet(content) if path.suffix == ".parquet" else _of_npz(content)
        provenance = Provenance.from_json({name: about[name] for name in about if name not in _ABOUT_THE_TABLE})
    except EmbeddingInvalid as exc:
        raise ResultCorrupt("The table holds NaN or infinity.") from exc
    except _DAMAGE as exc:
        raise ResultCorrupt("The table is damaged.") from exc
    if embeddings.digest != about.get("embeddings_sha256"):
        raise ResultCorrupt("The embeddings in the table are not those that were written: their digest differs.")
    columns = tuple(f"Embedding component {index + 1}" for index in range(embeddings.dimension))
    slide = slide_of(path.stem, provenance.encoder, provenance.result_key)
    return StoredEmbeddings(embeddings, provenance, columns, digest_verified=True, slide=slide)


def _of_parquet(content: bytes) -> tuple[Embeddings, Mapping[str, Any]]:
    names = pq.read_schema(BytesIO(content))
    if METADATA_KEY not in (names.metadata or {}):
        raise ResultNotFound("The table is none of Slidewire's: it does not say how it came about.")
    about = json.loads(names.metadata[METADATA_KEY])
    wanted = [*_BOX, "x_um", "y_um", *(["fallback"] if "fallback" in names.names else [])]
    read = read_parquet(content, wanted)
    boxes = np.stack([read[name].to_numpy() for name in _BOX], axis=1).astype(np.int32)
    known = len(read) and not (read["x_um"].null_count or read["y_um"].null_count)
    um = np.stack([read[name].to_numpy() for name in ("x_um", "y_um")], axis=1) if known else None
    marks = np.asarray(read["fallback"].to_numpy(), np.bool_) if "fallback" in names.names else None
    return _embeddings(matrix_of(content), boxes, about, um, marks), about


def _of_npz(content: bytes) -> tuple[Embeddings, Mapping[str, Any]]:
    with zipfile.ZipFile(BytesIO(content)) as archive:
        if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
            raise ResultNotFound("The file is compressed, which Slidewire's own never are.")
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        if "provenance" not in arrays:
            raise ResultNotFound("The file is no table of Slidewire's: it does not say how it came about.")
        about = json.loads(str(arrays["provenance"]))
        marks = arrays.get("fallback")
        return _embeddings(arrays["features"], arrays["boxes"], about, None, marks), about


def _embeddings(matrix: Any, boxes: Any, about: Mapping[str, Any], um: Any, marks: Any) -> Embeddings:
    """Return the embeddings; positions are computed as they were for the table, which rounds them to pixels."""
    pixels = boxes[:, :2] * np.array(about["level_scale"], np.float64)
    spacing = about["level_0_spacing_um"]
    if um is None and spacing is not None:
        um = pixels * np.array(spacing, np.float64)
    return Embeddings(matrix, boxes, pixels, um, marks)
