"""Writes the annotations of a result and says how much memory that took: a process of its own, nothing else counts.

``python -m tests.bench.results_memory PATCHES COMPONENTS FOLDER [--maps] [--holes]`` prints a line of JSON. The matrix
counts, what Python and its libraries take before there is one does not. ``--holes``: one patch in a thousand is one.
"""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from connectors.dicom.result.objects import build_objects
from connectors.protocols import Result
from models.domain.embedding import Embeddings
from tests.bench.feed_memory import memory_mb
from tests.unit.connectors.dicom.results import make_result, placed_header


def large_result(patches: int, components: int, *, holes: bool = False) -> Result:
    """Return a result of that many patches of 224 px on a grid as wide as a slide, and seeded embeddings."""
    matrix = np.random.default_rng(7).standard_normal((patches, components), dtype=np.float32)
    if holes:
        matrix[::1000] = np.nan
    rows, columns = np.divmod(np.arange(patches, dtype=np.int32), np.int32(500))
    corners = np.stack([columns, rows], axis=1) * np.int32(224)
    boxes = np.hstack([corners, np.full((patches, 2), 224, np.int32)])
    pixels = corners * 4.0
    sides = {"00480006": 500 * 224, "00480007": (int(rows.max()) + 1) * 224}  # total pixel matrix: columns, rows
    header = placed_header() | {tag: {"vr": "UL", "Value": [side]} for tag, side in sides.items()}
    small = make_result(1, components, header)
    provenance = replace(small.provenance, patches=patches, grid_patches=patches)
    embeddings = Embeddings(matrix, boxes, pixels, pixels * 0.125, np.arange(patches) % 100 == 1)
    return replace(small, embeddings=embeddings, provenance=provenance, step_px=(224.0, 224.0))


def save(result: Result, folder: Path, *, maps: bool = False) -> dict[str, str]:
    """Write all objects, and return the digest of each file by its name."""
    digests = {}
    for made in build_objects(result, maps=maps):
        state = hashlib.sha256()
        path = folder / f"result{made.suffix}"
        with path.open("wb") as file:
            for chunk in made.chunks():
                state.update(chunk)
                file.write(chunk)
        digests[path.name] = state.hexdigest()
    return digests


def main() -> None:
    """Build, save, and say."""
    patches, components, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    maps = "--maps" in sys.argv
    save(large_result(10, 4), folder, maps=maps)  # what is imported late is there now
    before_mb = memory_mb("VmRSS")
    result = large_result(patches, components, holes="--holes" in sys.argv)
    digests = save(result, folder, maps=maps)
    matrix_mb = result.embeddings.matrix.nbytes / 2**20
    taken_mb = memory_mb("VmHWM") - before_mb
    figures = {
        "matrix_mb": round(matrix_mb),
        "peak_mb": round(taken_mb),
        "multiple": round(taken_mb / matrix_mb, 2),
        "files": digests,
    }
    sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
