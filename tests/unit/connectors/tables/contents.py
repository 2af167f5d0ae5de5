"""What tables are made of: results with holes, with fallbacks, without patches, and of somebody else."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from connectors.tables.protocol import Table, TableContent, TableFolder
from models.domain.embedding import Embeddings, Provenance
from tests.unit.connectors.dicom.results import make_result

RECIPE = "0123abcd" * 8


def make_content(count: int, dimension: int = 5) -> TableContent:
    """Return the content of a table of `count` patches: 224 px at 20x of a slide scanned at 80x."""
    result = make_result(count, dimension, None)
    provenance = replace(result.provenance, slide_px=(50000, 40000), recipe=RECIPE)
    return TableContent("S-1.efficientnet-lite0", result.embeddings, provenance, "S-1")


def with_holes(content: TableContent, rows: list[int]) -> TableContent:
    """Make holes of some rows."""
    matrix = content.embeddings.matrix.copy()
    matrix[rows] = np.nan
    return replace(content, embeddings=replace(content.embeddings, matrix=matrix))


def with_fallbacks(content: TableContent, rows: list[int]) -> TableContent:
    """Mark some rows as embedded without a step."""
    marks = np.zeros(len(content.embeddings), np.bool_)
    marks[rows] = True
    return replace(content, embeddings=replace(content.embeddings, fallbacks=marks))


def told(content: TableContent, **facts: object) -> TableContent:
    """Change facts of the provenance."""
    return replace(content, provenance=Provenance.from_json({**content.provenance.to_json(), **facts}))


def foreign() -> TableContent:
    """Return what is known of a result that some other program left in an archive: its values, places and pixels."""
    content = make_content(4)
    unknown = told(
        content,
        **dict.fromkeys(("encoder", "encoder_revision", "weights_sha256", "recipe", "preprocessing"), ""),
        **dict.fromkeys(("spacing_um", "requested_spacing_um", "level_0_spacing_um", "slide_px", "tissue_fraction")),
        notes=(),
    )
    return replace(unknown, name="foreign", slide="", embeddings=replace(unknown.embeddings, positions_um=None))


def files_of(table: Table, content: TableContent) -> dict[str, bytes]:
    """Return all files of a table by their paths; those of folders, too."""
    found: dict[str, bytes] = {}
    for made in table.write(content):
        if isinstance(made, TableFolder):
            found |= {f"{made.path}/{file.path}": file.content for file in made.files}
        else:
            found[made.path] = made.content
    return found


def laid_out(table: Table, content: TableContent, folder: Path) -> Path:
    """Write all files of a table; return the folder of the layout."""
    for path, data in files_of(table, content).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return next(path for path in folder.iterdir() if path.is_dir())


def upper_left(embeddings: Embeddings) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return the corners as all layouts hold them: whole pixels of level 0."""
    return np.rint(embeddings.positions_px).astype(np.int64)
