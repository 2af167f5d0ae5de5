"""Fault 22: disks that are full, read-only or broken, under the checkpoints, the ledger and the outputs."""

import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import Fault as Record
from tests.faults.invariants import assert_sound, digests
from tests.faults.quick import some_quick
from tests.services.command import Running, Slidewire
from tests.services.ports import wait_until
from tests.services.slides import SlideOnDisk
from tests.services.warm import WarmProcess

_WHAT = ("--encoder", "pixel-grid", "--all-patches", "--stride-px", "112")
_SETTINGS = {"SLIDEWIRE_SHARD_PATCHES": "128", "SLIDEWIRE_BATCH_SIZE": "32", "SLIDEWIRE_CHECKPOINT_S": "0.001"}
_SIZE_MB = 16
_LOG_BYTES = 1 << 15  # the worker still writes its log


@pytest.fixture(scope="module")
def golden(cmu_slide: SlideOnDisk, warm: WarmProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Embed without trouble; give the digests of what came out."""
    quiet = Slidewire(tmp_path_factory.mktemp("golden"), warm, dict(_SETTINGS))
    return digests(quiet, [quiet.done("embed", cmu_slide.folder, *_WHAT, "--out", "out").json["job"]])[0]


class _Disk:
    """A small disk of its own where this process may mount one; else a folder, and a worker told that it is full.

    Parameters
    ----------
    folder : Path

    Attributes
    ----------
    how : str
        What it is, for the record.
    armed : tuple of str
        For `Slidewire.start`.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self._sign = folder, folder.with_suffix(".full")
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m,mode=700", "none", str(folder)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        self.how = f"a tmpfs of {_SIZE_MB} MB filled up" if self.mounted else "fsync and the size of files limited"
        self.armed = () if self.mounted else (f"fsync=ENOSPC:{self._sign}",)

    def fill(self, ledger_of: Running | None = None) -> None:
        """Use up every byte; where no disk can be mounted, a worker whose ledger lies there writes no large file."""
        if not self.mounted:
            self._sign.touch()
            self._limit(ledger_of, _LOG_BYTES)
            return
        with (self.folder / "filler").open("wb", buffering=0) as file:
            step = 1 << 20
            while step:
                try:
                    file.write(bytes(step))
                except OSError:  # full, for pieces of that size
                    step >>= 1

    def free(self, ledger_of: Running | None = None) -> None:
        """Give it all back."""
        if self.mounted:
            (self.folder / "filler").unlink(missing_ok=True)
            return
        self._sign.unlink()
        self._limit(ledger_of, resource.RLIM_INFINITY)

    def close(self) -> None:
        """Unmount it."""
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)

    @staticmethod
    def _limit(worker: Running | None, size: int) -> None:
        if worker is not None:
            resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[_Disk]:
    """Give a small disk."""
    one = _Disk(tmp_path / "disk")
    yield one
    one.close()


def _begun(slidewire: Slidewire, slide: SlideOnDisk, out: Path, *armed: str) -> tuple[str, Running]:
    """Submit a job, start a slow worker, wait for its first checkpoint."""
    slidewire.environment |= _SETTINGS | {"SLIDEWIRE_LEASE_S": "3"}
    job = str(slidewire.done("submit", slide.folder, *_WHAT, "--out", out).json["job"])
    worker = slidewire.start("worker", armed=["slow=:0.15", *armed])
    wait_until(lambda: bool(slidewire.rows("SELECT 1 FROM checkpoint")), "a checkpoint")
    return job, worker


def _refused(slidewire: Slidewire, code: str) -> None:
    """Wait until a shard is given back with a code; the job goes on."""
    query = f"SELECT 1 FROM attempt WHERE event = 'failed' AND code = '{code}'"
    wait_until(lambda: bool(slidewire.rows(query)), "a shard that is given back")
    assert slidewire.rows("SELECT state FROM job") == [("running",)]


def _goes_on(slidewire: Slidewire, job: str, worker: Running, golden: tuple[str, ...]) -> None:
    with slidewire.ledger() as connection:  # the waits are over
        connection.exec_driver_sql("UPDATE shard SET not_before = 0 WHERE state = 'pending'")
        connection.commit()
    slidewire.wait_for(job)
    assert worker.terminate() == 0, worker.log
    assert slidewire.rows("PRAGMA integrity_check") == [("ok",)]
    assert_sound(slidewire, {job: golden})


@pytest.mark.faults
def test_a_full_disk_under_the_checkpoints(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, disk: _Disk, golden: tuple[str, ...], fault: Record
) -> None:
    """The shard goes back and waits, nothing half-written stays, and it goes on when there is space."""
    fault.is_number(22, "disk full: checkpoints", disk.how)
    slidewire.environment["SLIDEWIRE_CHECKPOINTS"] = str(disk.folder / "checkpoints")
    job, worker = _begun(slidewire, cmu_slide, slidewire.folder / "out", *disk.armed)
    disk.fill()
    fault.strikes()
    _refused(slidewire, "LEDGER_UNAVAILABLE")
    assert not list(disk.folder.rglob(".part-*"))
    disk.free()
    _goes_on(slidewire, job, worker, golden)
    fault.is_over()


@pytest.mark.faults
def test_a_full_disk_under_the_ledger(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, disk: _Disk, golden: tuple[str, ...], fault: Record
) -> None:
    """Nothing is lost or half-done: the worker lives on, and the job ends by itself when there is space."""
    fault.is_number(22, "disk full: SQLite ledger", disk.how)
    slidewire.environment["SLIDEWIRE_LEDGER_URL"] = f"sqlite:///{disk.folder}/ledger.sqlite"
    job, worker = _begun(slidewire, cmu_slide, slidewire.folder / "out")
    disk.fill(ledger_of=worker)
    fault.strikes()
    wait_until(lambda: "does not answer" in worker.log, "the worker to notice")
    assert slidewire.rows("PRAGMA integrity_check") == [("ok",)]
    assert worker.process.poll() is None, worker.log
    disk.free(ledger_of=worker)
    _goes_on(slidewire, job, worker, golden)
    fault.is_over()


def test_a_full_disk_under_the_outputs(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, disk: _Disk, golden: tuple[str, ...], fault: Record
) -> None:
    """The publication waits with everything that was computed; no part of a file is ever seen."""
    fault.is_number(22, "disk full: outputs", disk.how)
    out = disk.folder / "out"
    slidewire.environment |= _SETTINGS | {"SLIDEWIRE_LEASE_S": "1"}
    job = str(slidewire.done("submit", cmu_slide.folder, *_WHAT, "--out", out).json["job"])
    assert slidewire("worker", "--drain", armed=["kill=publish.before_write"]).rc == -signal.SIGKILL
    disk.fill()
    fault.strikes()
    worker = slidewire.start("worker", armed=["slow=:0", *disk.armed])
    _refused(slidewire, "OUTPUT_UNAVAILABLE")
    assert not [path for path in out.rglob("*") if path.is_file()]
    disk.free()
    _goes_on(slidewire, job, worker, golden)
    fault.is_over()


@pytest.mark.parametrize("name", some_quick(["ENOSPC", "EIO"], {"EIO"}))
def test_a_flush_that_fails(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, golden: tuple[str, ...], fault: Record, name: str
) -> None:
    """What was written and cannot be brought to the disk is not believed, be it a checkpoint or a table."""
    fault.is_number(22, f"{name} as a file is flushed", "os.fsync replaced in the worker's process")
    sign = slidewire.folder / "broken"
    job, worker = _begun(slidewire, cmu_slide, slidewire.folder / "out", f"fsync={name}:{sign}")
    sign.touch()
    fault.strikes()
    _refused(slidewire, "LEDGER_UNAVAILABLE")
    assert not list(slidewire.folder.rglob(".part-*"))
    sign.unlink()
    _goes_on(slidewire, job, worker, golden)
    fault.is_over()


@pytest.mark.faults
def test_a_read_only_folder(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, golden: tuple[str, ...], fault: Record
) -> None:
    """An output folder that is a file fails the job for good, by its code; put right and tried again, it is written."""
    fault.is_number(22, "outputs cannot be written at all", "a file in place of the folder")
    fault.outcome = "OUTPUT_UNWRITABLE"
    out = slidewire.folder / "out"
    job, worker = _begun(slidewire, cmu_slide, out)
    out.write_text("a file")
    fault.strikes()
    failed = slidewire.wait_for(job, "failed")
    assert failed["error"]["code"] == "OUTPUT_UNWRITABLE"
    assert str(out) not in failed["error"]["message"]
    out.unlink()
    slidewire.done("jobs", "retry", job)
    _goes_on(slidewire, job, worker, golden)
    fault.is_over()


@pytest.mark.faults
def test_checkpoints_that_cannot_be_made(
    slidewire: Slidewire, cmu_slide: SlideOnDisk, golden: tuple[str, ...], fault: Record
) -> None:
    """A file in place of their folder: the job waits, without a crash counted, until somebody puts it right."""
    fault.is_number(22, "checkpoints cannot be written at all", "a file in place of the folder")
    folder = slidewire.folder / "checkpoints"
    slidewire.environment |= _SETTINGS | {"SLIDEWIRE_CHECKPOINTS": str(folder)}
    job = str(slidewire.done("submit", cmu_slide.folder, *_WHAT, "--out", slidewire.folder / "out").json["job"])
    folder.write_text("a file")
    worker = slidewire.start("worker")
    fault.strikes()
    _refused(slidewire, "LEDGER_UNAVAILABLE")
    assert slidewire.rows("SELECT max(crashes) FROM shard") == [(0,)]
    folder.unlink()
    _goes_on(slidewire, job, worker, golden)
    fault.is_over()
