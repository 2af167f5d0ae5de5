"""Folders of results: small tables as jobs leave them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from connectors.tables.parquet import to_parquet
from models.domain.embedding import Embeddings
from tests.unit.connectors.dicom.results import make_result


def leave_result(folder: Path, slide: str, count: int, holes: tuple[int, ...] = (), **said: str) -> Embeddings:
    """Write the table of a slide, its numbers drawn after its name; return the embeddings."""
    plain = make_result(count, 4, None)
    random = np.random.default_rng(sum(slide.encode()))
    matrix = random.standard_normal((count, 4)).astype(np.float32)
    matrix[list(holes)] = np.nan
    one = plain.embeddings
    embeddings = Embeddings(matrix, one.boxes, one.positions_px, one.positions_um)
    about = {"recipe": "ab" * 32, "result_key": f"{len(holes):02}" * 32, **said}
    provenance = replace(plain.provenance, patches=count, **about)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{slide}.{provenance.encoder}.{provenance.result_key[:8]}.parquet"
    (folder / name).write_bytes(to_parquet(embeddings, provenance))
    return embeddings
