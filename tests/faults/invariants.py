"""What must hold of a ledger and its outputs after any fault; each is one question that a test asks by name.

I1 every accepted job has ended; I2 one result a job, none partial; I3 its bytes are those of a quiet run; I4 attempts
and crashes within their caps, the audit complete, epochs one after the other; I5 no secret and no patient data
anywhere; I6 is the test's own: how long it took; I7 no temporary file and no lease is left.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.services.command import Slidewire

FINAL = {"succeeded", "failed", "quarantined", "cancelled"}
_ENDS = {"completed", "released", "failed", "deferred", "crashed", "expired"}


def digests(slidewire: Slidewire, jobs: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the digests of the outputs of jobs that succeeded, in order; what to compare a disturbed run with."""
    told = _told(slidewire)
    return [tuple(output["sha256"] for output in told[job]["outputs"]) for job in jobs]


def _told(slidewire: Slidewire) -> dict[str, dict[str, Any]]:
    """Return all jobs as `slidewire jobs` tells them, by id."""
    return {job["job"]: job for job in slidewire.done("jobs", "--limit", 1_000_000).json}


def assert_sound(slidewire: Slidewire, golden: Mapping[str, tuple[str, ...]] | None = None) -> None:
    """Ask everything that can be asked of a ledger whose work is over (I1, I2, I3, I4, I7).

    Parameters
    ----------
    slidewire : Slidewire
    golden : mapping of str to tuple of str, or None
        Digests of a quiet run's outputs, by job of this one.
    """
    assert_ended(slidewire)
    assert_whole(slidewire)
    assert_audited(slidewire)
    assert_tidy(slidewire)
    wanted = dict(golden or {})
    found = dict(zip(wanted, digests(slidewire, wanted), strict=True))
    assert found == wanted, "other bytes than in a quiet run"


def assert_ended(slidewire: Slidewire) -> None:
    """I1: nothing is waiting, nothing is being worked on."""
    states = dict(slidewire.rows("SELECT id, state FROM job"))
    assert states, "no job at all"
    assert set(states.values()) <= FINAL, states
    assert not slidewire.rows("SELECT id FROM shard WHERE state IN ('pending', 'leased')")


def assert_whole(slidewire: Slidewire) -> None:
    """I2: a job that succeeded has outputs, and the files among them are what their digests say; others have none."""
    for job, told in _told(slidewire).items():
        outputs = told["outputs"]
        assert bool(outputs) == (told["state"] == "succeeded"), (job, told)
        for output in outputs:
            path = Path(output["uri"])
            if output["kind"] == "parquet" and path.is_absolute():
                assert hashlib.sha256(path.read_bytes()).hexdigest() == output["sha256"], output
    for (count,) in slidewire.rows("SELECT count(*) FROM shard WHERE kind = 'publish' GROUP BY job_id"):
        assert count == 1


def assert_audited(slidewire: Slidewire) -> None:
    """I4: every claim has one end, epochs follow one another, nothing is completed twice, no cap is exceeded."""
    histories: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for shard, epoch, event in slidewire.rows("SELECT shard_id, epoch, event FROM attempt ORDER BY id"):
        histories[shard].append((epoch, event))
    for attempts, crashes, epoch, shard in slidewire.rows("SELECT attempts, crashes, epoch, id FROM shard"):
        assert attempts <= 12, (shard, attempts)
        assert crashes <= 3, (shard, crashes)
        history = histories[shard]
        claims = [number for number, event in history if event == "claimed"]
        assert claims == list(range(1, epoch + 1)), (shard, history)
        ends = [number for number, event in history if event in _ENDS]
        assert sorted(ends) == claims, f"a lease that did not end once: {history}"
        assert all(first <= second for first, second in pairwise(number for number, _ in history)), history


def assert_tidy(slidewire: Slidewire) -> None:
    """I7: no half-written file, no owner of a shard, no checkpoint of a job that succeeded."""
    left = [path for path in slidewire.folder.rglob(".part-*") if path.is_file()]
    left += list(slidewire.folder.rglob("*.part"))
    assert not left, left
    assert not slidewire.rows("SELECT id FROM shard WHERE owner <> ''")
    kept = (
        "SELECT checkpoint.shard_id FROM checkpoint JOIN shard ON shard.id = checkpoint.shard_id "
        "JOIN job ON job.id = shard.job_id WHERE job.state = 'succeeded'"
    )
    assert not slidewire.rows(kept)


def assert_silent(slidewire: Slidewire, secrets: Iterable[str], *more: str) -> None:
    """I5: no log and no text given holds one of the secrets."""
    logs = [path for end in ("log", "out", "err") for path in slidewire.folder.glob(f"*.{end}")]
    texts = {path.name: path.read_text(errors="replace") for path in logs}
    texts |= {f"text {number}": text for number, text in enumerate(more)}
    found = [(name, secret) for name, text in texts.items() for secret in secrets if secret in text]
    assert not found, found
