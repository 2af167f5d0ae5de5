"""worker.ledger.checkpoints."""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.domain.errors import EmbeddingInvalid, LeaseLost, LedgerError, LedgerUnavailable
from models.domain.patch import Rows
from tests.unit.worker.ledger.sample import claim, finish, rows_of, run_out, submit
from worker.ledger import Ledger, checkpoints


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def _put_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


_DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped bit": _flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-4]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": os.remove,
    "a folder": _put_folder,
}


def test_what_is_saved_is_loaded_in_order(ledger: Ledger) -> None:
    """Of one shard by batch, of a job by shard and batch, bit for bit."""
    job = submit(ledger)
    first, second = claim(ledger), claim(ledger)
    late = ledger.checkpoints.save(second, 0, 3, rows_of(second))
    end = ledger.checkpoints.save(first, 2, 1, rows_of(first)[6:])
    start = ledger.checkpoints.save(first, 0, 2, rows_of(first)[:6])
    loaded = ledger.checkpoints.load(job.id)
    assert [kept for kept, _ in loaded] == [start, end, late]
    assert Rows.join([rows for _, rows in loaded]).matrix.tobytes() == np.arange(60, dtype="<f4").tobytes()
    assert [kept for kept, _ in ledger.checkpoints.load(first.shard_id)] == [start, end]
    assert (start.first_batch, start.batches, start.patches) == (0, 2, 6)
    assert start.sha256 == hashlib.sha256(start.path.read_bytes()).hexdigest()
    assert np.array_equal(np.load(start.path, allow_pickle=False), rows_of(first)[:6].matrix)


def test_values_that_are_no_numbers_and_no_rows_are_kept_as_they_are(ledger: Ledger) -> None:
    """Whether NaN is acceptable is not the checkpoint's question; an empty one and a transposed one work."""
    submit(ledger, shards=1)
    lease = claim(ledger)
    rows = np.array([[np.nan, -0.0], [np.inf, 1e-45]], np.float32).T
    ledger.checkpoints.save(lease, 0, 1, Rows(rows))
    ledger.checkpoints.save(lease, 1, 1, Rows(np.zeros((0, 2), np.float32)))
    loaded = ledger.checkpoints.load(lease.shard_id)
    assert loaded[0][1].matrix.tobytes() == np.ascontiguousarray(rows).tobytes()
    assert loaded[1][1].matrix.shape == (0, 2)


@pytest.mark.parametrize("damage", _DAMAGE)
def test_a_damaged_file_is_dropped_so_that_its_batches_are_computed_again(ledger: Ledger, damage: str) -> None:
    """The others are still used, and the batches can be saved anew."""
    submit(ledger, shards=1)
    lease = claim(ledger)
    broken = ledger.checkpoints.save(lease, 0, 1, rows_of(lease)[:5])
    whole = ledger.checkpoints.save(lease, 1, 1, rows_of(lease)[5:])
    _DAMAGE[damage](broken.path)
    assert [kept for kept, _ in ledger.checkpoints.load(lease.shard_id)] == [whole]
    if damage == "a folder":
        broken.path.rmdir()
    anew = ledger.checkpoints.save(lease, 0, 1, rows_of(lease)[:5])
    assert [kept for kept, _ in ledger.checkpoints.load(lease.shard_id)] == [anew, whole]


def test_the_next_worker_finds_what_the_dead_one_saved(ledger: Ledger) -> None:
    """Checkpoints outlive leases."""
    submit(ledger, shards=1)
    dead = claim(ledger)
    kept = ledger.checkpoints.save(dead, 0, 1, rows_of(dead))
    run_out(ledger, dead)
    ledger.shards.reap()
    assert [found for found, _ in ledger.checkpoints.load(claim(ledger).shard_id)] == [kept]


def test_who_lost_the_lease_removes_only_what_it_wrote_itself(ledger: Ledger) -> None:
    """The successor has saved the same numbers: its file is another one, and stays."""
    submit(ledger, shards=1)
    lost = claim(ledger)
    run_out(ledger, lost)
    ledger.shards.reap()
    kept = ledger.checkpoints.save(claim(ledger), 0, 1, rows_of(lost))
    with pytest.raises(LeaseLost):
        ledger.checkpoints.save(lost, 0, 1, rows_of(lost))
    assert [found for found, _ in ledger.checkpoints.load(lost.shard_id)] == [kept]
    assert list(kept.path.parent.iterdir()) == [kept.path]


def test_what_was_saved_anew_meanwhile_is_not_dropped(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between finding a file damaged and dropping its row, another worker may have replaced both."""
    submit(ledger, shards=1)
    lost = claim(ledger)
    ledger.checkpoints.save(lost, 0, 1, rows_of(lost))
    run_out(ledger, lost)
    ledger.shards.reap()
    successor = claim(ledger)
    read = checkpoints._read_verified

    def overtaken(path: Path, sha256: str, patches: int) -> None:
        del path, sha256, patches
        monkeypatch.setattr(checkpoints, "_read_verified", read)
        ledger.checkpoints.save(successor, 0, 1, rows_of(lost))

    monkeypatch.setattr(checkpoints, "_read_verified", overtaken)
    assert ledger.checkpoints.load(lost.shard_id) == []
    assert len(ledger.checkpoints.load(lost.shard_id)) == 1


def test_the_same_batches_are_replaced_and_others_may_not_overlap(ledger: Ledger) -> None:
    """A second copy wins; batches that belong to two checkpoints would be counted twice, so they are refused."""
    submit(ledger, shards=1)
    lease = claim(ledger)
    ledger.checkpoints.save(lease, 2, 2, rows_of(lease))
    second = ledger.checkpoints.save(lease, 2, 2, Rows(rows_of(lease).matrix + 1))
    for first_batch, batches in ((2, 1), (3, 1), (3, 5), (0, 3), (0, 9)):
        with pytest.raises(LedgerError, match="overlap"):
            ledger.checkpoints.save(lease, first_batch, batches, rows_of(lease))
    assert [kept for kept, _ in ledger.checkpoints.load(lease.shard_id)] == [second]


@pytest.mark.parametrize("rows", [np.zeros((2, 2)), np.zeros(4, np.float32), np.zeros((2, 2), np.float16)])
def test_only_float32_matrices_are_kept(ledger: Ledger, rows: np.ndarray) -> None:
    """Anything else is a mistake of the caller."""
    submit(ledger, shards=1)
    with pytest.raises(EmbeddingInvalid):
        ledger.checkpoints.save(claim(ledger), 0, 1, Rows(rows))


def test_what_is_discarded_is_gone(ledger: Ledger) -> None:
    """The job's files and rows, and nobody else's; a second time nothing happens."""
    submit(ledger, "a", shards=1)
    submit(ledger, "b", shards=1)
    first, second = claim(ledger), claim(ledger)
    for lease in (first, second):
        ledger.checkpoints.save(lease, 0, 1, rows_of(lease))
    for _ in range(2):
        ledger.checkpoints.discard(first.job_id)
        assert ledger.checkpoints.load(first.job_id) == []
        assert not (ledger.checkpoints._folder / first.job_id).exists()
    assert len(ledger.checkpoints.load(second.job_id)) == 1


def test_what_a_dead_worker_did_not_discard_is_found(ledger: Ledger) -> None:
    """Of jobs that succeeded, files and rows; an open job keeps what it has."""
    for key in ("published", "open"):
        submit(ledger, key, shards=1)
    first, second = claim(ledger), claim(ledger)
    for lease in (first, second):
        finish(ledger, lease)
    publish = claim(ledger, first.job_id)
    ledger.shards.publish(publish, ())
    assert ledger.checkpoints.discard_published() == 1
    assert ledger.checkpoints.load(first.job_id) == []
    assert not (ledger.checkpoints._folder / first.job_id).exists()
    assert len(ledger.checkpoints.load(second.job_id)) == 1
    assert ledger.checkpoints.discard_published() == 0


def test_nobody_else_reads_checkpoints(ledger: Ledger) -> None:
    """Embeddings are patient data: folders 0700, files 0600, no leftovers."""
    submit(ledger, shards=1)
    lease = claim(ledger)
    kept = ledger.checkpoints.save(lease, 0, 1, rows_of(lease))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (kept.path.parent.parent, kept.path.parent, kept.path)]
    assert modes == [0o700, 0o700, 0o600]
    assert list(kept.path.parent.iterdir()) == [kept.path]


def test_files_and_their_names_are_on_the_disk_before_the_row(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut takes away neither: the file is flushed first, then the folders that name it."""
    flushed = []

    def flush(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    submit(ledger, shards=1)
    lease = claim(ledger)
    monkeypatch.setattr("worker.ledger.checkpoints.os.fsync", flush)
    kept = ledger.checkpoints.save(lease, 0, 1, rows_of(lease))
    temporary, *folders = flushed
    assert temporary.parent == kept.path.parent
    assert folders == [kept.path.parent, kept.path.parent.parent]


def test_a_full_disk_is_worth_another_try(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half file stays, no row is written, and the error is retryable."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    submit(ledger, shards=1)
    lease = claim(ledger)
    monkeypatch.setattr("worker.ledger.checkpoints.os.fsync", full)
    with pytest.raises(LedgerUnavailable, match="No space left"):
        ledger.checkpoints.save(lease, 0, 1, rows_of(lease))
    assert list((ledger.checkpoints._folder / lease.job_id).iterdir()) == []
    assert ledger.checkpoints.load(lease.shard_id) == []


def test_marks_are_kept_with_their_rows(ledger: Ledger) -> None:
    """Beside a checkpoint of the same batches without any."""
    submit(ledger, shards=1)
    lease = claim(ledger)
    rows = rows_of(lease)
    marks = np.arange(len(rows)) % 3 == 0
    ledger.checkpoints.save(lease, 0, 1, Rows(rows.matrix, marks))
    ledger.checkpoints.save(lease, 1, 1, rows)
    [(_, marked), (_, unmarked)] = ledger.checkpoints.load(lease.shard_id)
    assert marked.matrix.tobytes() == unmarked.matrix.tobytes() == rows.matrix.tobytes()
    assert marked.fallbacks is not None
    assert marked.fallbacks.tolist() == marks.tolist()
    assert unmarked.fallbacks is None
