"""Fault 23: checkpoints that are damaged, gone, left over or unknown, at every moment at which it could matter."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import Fault as Record
from tests.faults.invariants import assert_sound, digests
from tests.faults.quick import some_quick
from tests.services.command import Slidewire
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--stride-px", "112", "--out", "out")
_SETTINGS = {"SLIDEWIRE_SHARD_PATCHES": "128", "SLIDEWIRE_BATCH_SIZE": "32", "SLIDEWIRE_CHECKPOINT_S": "0.001"}


@pytest.fixture(scope="module")
def golden(cmu_slide: SlideOnDisk, warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Embed without trouble; give the digests of what came out."""
    quiet = Slidewire(tmp_path_factory.mktemp("golden"), warm, dict(_SETTINGS))
    return digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT).json["job"]])[0]


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def _swap(path: Path) -> None:
    """Let a good file of other batches lie in its place."""
    other = next(one for one in sorted(path.parent.glob("*.npy")) if one.read_bytes() != path.read_bytes())
    path.write_bytes(other.read_bytes())


def _forbid(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)  # a loop: reading it is an error, for root, too


_DAMAGE: dict[str, Callable[[Path], object]] = {
    "a bit flipped": _flip, "cut off": _shorten, "gone": Path.unlink, "another's content": _swap, "unreadable": _forbid,
}  # fmt: skip


def _left(slidewire: Slidewire, slide: SlideOnDisk, point: str) -> tuple[str, list[Path]]:
    """Submit a job whose worker is killed at a place; return its id and the files of its checkpoints."""
    slidewire.environment |= _SETTINGS | {"SLIDEWIRE_LEASE_S": "1"}
    job = str(slidewire.done("submit", slide.folder, *_WHAT).json["job"])
    worker = slidewire.start("worker", armed=[f"kill={point}"])
    assert worker.wait() == -signal.SIGKILL, worker.log
    names = [name for (name,) in slidewire.rows("SELECT name FROM checkpoint ORDER BY name")]
    assert len(names) > 2
    return job, [slidewire.folder / "state" / "checkpoints" / job / name for name in names]


@pytest.mark.parametrize(
    "point", some_quick(["checkpoint.before_file:7", "publish.before_write"], {"publish.before_write"})
)
@pytest.mark.parametrize("name", some_quick(_DAMAGE, {"a bit flipped"}))
def test_a_checkpoint_that_is_not_what_was_written(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, golden: tuple[str, ...], fault: Record, name: str, point: str
) -> None:
    """Found by its digest in the middle of a job and before publishing; its batches are computed again, no others."""
    moment = "at publishing" if point.startswith("publish") else "in the middle"
    fault.is_number(23, f"checkpoint {name}, {moment}", "the file changed while no worker ran")
    job, files = _left(slidewire, cmu_slide, point)
    _DAMAGE[name](files[0])
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(slidewire, {job: golden})
    again = slidewire.rows("SELECT idx, epoch FROM shard WHERE kind = 'embed' AND epoch > 1")
    assert {index for index, _ in again} <= {int(files[0].name[:5]), int(files[-1].name[:5])}


def test_files_that_no_row_names(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, golden: tuple[str, ...], fault: Record
) -> None:
    """Half files and whole ones that a dead worker left are not read, and go with the job's folder."""
    fault.is_number(23, "files without a row", "files put beside the checkpoints, and a kill between file and row")
    job, files = _left(slidewire, cmu_slide, "checkpoint.after_file:7")
    folder = files[0].parent
    assert len(list(folder.glob("*.npy"))) == len(files) + 1, "the kill left no file without a row"
    (folder / ".part-abcdef").write_bytes(b"\x93NUMPY half of a fi")
    (folder / "00000-000000-9-0123456789abcdef.npy").write_bytes(files[1].read_bytes())
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(slidewire, {job: golden})
    assert not folder.exists()


@pytest.mark.parametrize(
    "point", some_quick(["publish.after_write", "publish.before_commit"], {"publish.before_commit"})
)
def test_nothing_is_embedded_twice_for_a_publication(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, golden: tuple[str, ...], fault: Record, point: str
) -> None:
    """Checkpoints are kept until the ledger knows of the outputs: killed before that, only the publishing is redone."""
    fault.is_number(2, "kill -9 at a named place", f"kill point {point}, and what runs again")
    job, _ = _left(slidewire, cmu_slide, point)
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(slidewire, {job: golden})
    assert set(slidewire.rows("SELECT kind, max(epoch) FROM shard GROUP BY kind")) == {("embed", 1), ("publish", 2)}


@pytest.mark.faults
def test_rows_without_any_file(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, golden: tuple[str, ...], fault: Record
) -> None:
    """The whole folder is lost before publishing (another host's disk): every shard runs again, and only once more."""
    fault.is_number(23, "rows without a file", "the job's folder removed before publishing")
    job, files = _left(slidewire, cmu_slide, "publish.before_write")
    for path in files:
        path.unlink()
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    assert_sound(slidewire, {job: golden})
    assert set(slidewire.rows("SELECT epoch FROM shard WHERE kind = 'embed'")) == {(2,)}


@pytest.mark.faults
def test_a_disk_that_keeps_nothing(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Record) -> None:
    """Files that are gone each time it comes to publishing: the job fails in the end rather than go round for ever."""
    fault.is_number(23, "a disk that keeps nothing", "every checkpoint removed before each publication")
    fault.outcome = "RESULT_CORRUPT"
    job, files = _left(slidewire, cmu_slide, "publish.before_write")
    with slidewire.ledger() as connection:  # eleven rounds have gone by
        connection.exec_driver_sql("UPDATE shard SET attempts = 11 WHERE kind = 'publish'")
        connection.commit()
    for path in files:
        os.truncate(path, 0)
    fault.strikes()
    assert slidewire("worker", "--drain").rc == 0
    fault.is_over()
    failed = slidewire.job(job)
    assert (failed["state"], failed["error"]["code"]) == ("failed", "RESULT_CORRUPT")
    slidewire.done("jobs", "retry", job)
    assert slidewire("worker", "--drain").rc == 0
    assert_sound(slidewire)
    assert slidewire.job(job)["state"] == "succeeded"


@pytest.mark.faults
def test_purged_in_the_end(slidewire: Slidewire, cmu_slide: SlideOnDisk, fault: Record) -> None:
    """`jobs purge` frees what a failed job holds, leaves an open one alone, and the failed one can be tried again."""
    fault.is_number(23, "checkpoints of jobs that failed", "a job cancelled in the middle, then `jobs purge`")
    cancelled, files = _left(slidewire, cmu_slide, "checkpoint.before_file:7")
    size = sum(path.stat().st_size for path in files)
    fault.strikes()
    none = {"jobs": 0, "files": 0, "freed_bytes": 0}
    assert slidewire.done("jobs", "purge", "--older-than", "0h").json == none
    slidewire.done("jobs", "cancel", cancelled)
    assert slidewire("worker", "--drain").rc == 0
    assert slidewire.job(cancelled)["state"] == "cancelled"
    assert slidewire.done("jobs", "purge").json == none
    found = slidewire.done("jobs", "purge", "--older-than", "0d").json
    fault.is_over()
    assert found == {"jobs": 1, "files": len(files), "freed_bytes": size}
    assert not files[0].parent.exists()
    for wrong in ("30", "d", "-1d", "1w", "1.5d", "9999999d"):
        slidewire.failed("REQUEST_INVALID", "jobs", "purge", f"--older-than={wrong}")
    slidewire.done("jobs", "retry", cancelled)
    assert slidewire("worker", "--drain").rc == 0
    assert_sound(slidewire)
