"""Faults 1 and 22, within one publication: a writer that is killed between and within its files."""

import subprocess
import sys
from pathlib import Path

import pytest

from connectors.sinks.disk import put_folder
from connectors.sinks.held import folder_digest_of
from connectors.tables.protocol import TableFile, TableFolder
from tests.faults.conftest import Fault as Record
from tests.faults.dying_writer import FOLDER
from tests.services.command import ROOT

pytestmark = pytest.mark.faults

_OLD = TableFolder(
    "slide.zarr", (TableFile("chunk/0", b"old"), TableFile("chunk/9", b"stale"), TableFile("zarr.json", b"{1}"))
)


def _written(folder: Path, moment: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "tests.faults.dying_writer", str(folder), moment]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    return done.returncode, done.stdout


@pytest.mark.parametrize("before", [None, _OLD], ids=["nothing", "an old one"])
@pytest.mark.parametrize("moment", ["table:1", "table:3", "renamed:1", "renamed:2", "dicom:1", "dicom:2"])
def test_killed_within_a_publication(tmp_path: Path, fault: Record, moment: str, before: TableFolder | None) -> None:
    """No reader ever finds a part of a table or a mixture of two; written again all is there, and nothing else."""
    fault.is_number(1, "kill -9 within a publication", f"SIGKILL at {moment} of a writer of table, folder and DICOM")
    rc, golden = _written(tmp_path / "quiet", "never")
    assert (rc, golden.count("\n")) == (0, 4)
    out = tmp_path / "out"
    place = out / "slide.zarr"
    if before is not None:
        put_folder(place, before)
    if moment == "renamed:2" and before is None:
        moment = "renamed:1"  # there is only one
    assert _written(out, moment)[0] == -9
    fault.strikes()
    assert folder_digest_of(str(place)) in {None, _OLD.sha256, FOLDER.sha256}
    if moment.startswith("dicom"):
        assert folder_digest_of(str(place)) == FOLDER.sha256, "tables come before the objects that speak of them"
        assert not list(out.glob("*.report.dcm"))
    assert _written(out, "never") == (0, golden)
    fault.is_over()
    assert {path.relative_to(out) for path in out.rglob("*")} == {
        path.relative_to(tmp_path / "quiet") for path in (tmp_path / "quiet").rglob("*")
    }
