"""A slide of 200,000 patches x 1536: 1.2 GB of values, written and read back without filling the memory."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest

from connectors.dicom.readback.stored_objects import read_objects
from connectors.dicom.result.objects import build_objects
from tests.bench.results_memory import large_result

pytestmark = pytest.mark.faults

SIZE = (200_000, 1536)
LARGEST = 2.5  # times the matrix
PARTS = 5


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that is empty again after the test: pytest keeps those of three runs."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_a_very_large_slide_is_written_and_read_back(folder: Path) -> None:
    """Five objects in at most 2.5 times the matrix, holes and all, the same in another process, and every bit back."""
    command = [sys.executable, "-m", "tests.bench.results_memory", *map(str, SIZE), str(folder), "--holes"]
    said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    assert said["multiple"] <= LARGEST
    result = large_result(*SIZE, holes=True)
    assert {f"result{made.suffix}": made.sha256 for made in build_objects(result)} == said["files"]
    files = sorted(folder.glob("*.annotations*.dcm"))
    assert len(files) == PARTS
    whole = result.embeddings.whole()
    del result
    stored = read_objects(pydicom.dcmread(path) for path in files).embeddings
    assert stored.fallbacks is not None
    assert whole.fallbacks is not None
    assert np.array_equal(stored.matrix, whole.matrix)
    assert np.array_equal(stored.boxes, whole.boxes)
    assert np.array_equal(stored.fallbacks, whole.fallbacks)
