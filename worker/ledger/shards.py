"""The shards of the ledger: leased to one worker at a time, completed, retried, given up."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import ColumnElement, func, select, update

from models.domain.embedding import Output
from models.domain.errors import Interrupted, LedgerError, ResultCorrupt, SlidewireError
from models.domain.job import JobState, Lane
from worker.ledger import transitions
from worker.ledger.backoff import ATTEMPTS
from worker.ledger.claim import Wanted, claim
from worker.ledger.clock import NOW
from worker.ledger.database import Database
from worker.ledger.failures import Failed, count_failure
from worker.ledger.reaper import reap
from worker.ledger.records import ANYTHING, Heartbeat, Lease, ReapReport, Remit, Rules, ShardState
from worker.ledger.schema import job, shard


class Shards:
    """The shards of one ledger.

    Every write under a lease raises `LeaseLost`, and writes nothing, once the shard was given to somebody else.

    Parameters
    ----------
    db : Database
    rules : Rules
    """

    def __init__(self, db: Database, rules: Rules) -> None:
        self._db = db
        self._rules = rules

    def claim(self, owner: str, job_id: str | None = None, remit: Remit = ANYTHING) -> Lease | None:
        """Lease the next shard that is due: by lane, then age of the job, then index; None if there is none.

        Parameters
        ----------
        owner : str
            Name of the worker, for the audit.
        job_id : str or None
            Only of this job, whatever the endpoint's limits are: somebody waits for it.
        remit : Remit
            Only of its lanes and, if no job is given, its encoders.
        """
        return claim(self._db, Wanted(owner, job_id, remit), self._rules)

    def heartbeat(self, lease: Lease, patches_done: int, note: str = "") -> Heartbeat:
        """Renew the lease, say how many of its patches are embedded and where the worker is; learn whether to stop."""
        done = min(max(patches_done, 0), lease.stop - lease.start)
        with self._db.write("heartbeat") as connection:
            values = {"lease_until": NOW + self._rules.lease_s, "patches_done": done}
            if note:
                values["note"] = transitions.one_line(note)
            transitions.update_leased(connection, lease, values)
            row = connection.execute(select(job.c.state, job.c.cancel_requested).where(job.c.id == lease.job_id)).one()
        return Heartbeat(row.cancel_requested or row.state not in transitions.OPEN_JOBS)

    def complete(self, lease: Lease) -> None:
        """End an embed shard; the last one of a job brings its publish shard into being."""
        _expect(lease, "embed")
        with self._db.write("complete") as connection:
            locked = transitions.lock_leased_job(connection, lease)
            values: dict[str, object] = {"patches_done": lease.stop - lease.start, "deferred_at": None}
            transitions.end_lease(connection, lease, ShardState.DONE, values)
            transitions.audit(connection, lease, "completed")
            transitions.settle(connection, locked)

    def publish(self, lease: Lease, outputs: Sequence[Output], holes: int = 0) -> None:
        """End the publish shard and with it the job: from here on its outputs can be seen, and its holes known."""
        _expect(lease, "publish")
        with self._db.write("publish") as connection:
            transitions.lock_leased_job(connection, lease)
            transitions.end_lease(connection, lease, ShardState.DONE, {})
            transitions.audit(connection, lease, "completed")
            stored = [asdict(output) for output in outputs]
            connection.execute(update(job).where(job.c.id == lease.job_id).values(outputs=stored, holes=holes))
            transitions.end_job(connection, lease.job_id, JobState.SUCCEEDED)

    def fail(self, lease: Lease, error: SlidewireError, detail: str = "") -> None:
        """End the lease with an error; what follows from it says `worker.ledger.failures`.

        `Interrupted` is a release. In a job that is cancelled or has ended the error does not count.
        """
        if isinstance(error, Interrupted):
            self.release(lease)
            return
        with self._db.write("fail") as connection:
            locked = transitions.lock_leased_job(connection, lease)
            if locked.wanted:
                count_failure(connection, Failed(lease, error, detail), self._rules.patience_s)
            else:
                transitions.audit(connection, lease, "failed", error.code, detail or error.message)
                transitions.end_lease(connection, lease, ShardState.CANCELLED, {})
                transitions.settle(connection, locked)

    def release(self, lease: Lease) -> None:
        """Give the shard back at once, without using an attempt, as the worker stops or the job was cancelled."""
        with self._db.write("release") as connection:
            locked = transitions.lock_leased_job(connection, lease)
            state = ShardState.PENDING if locked.wanted else ShardState.CANCELLED
            transitions.end_lease(connection, lease, state, {})
            transitions.audit(connection, lease, "released")
            transitions.settle(connection, locked)

    def rewind(self, lease: Lease) -> int:
        """Give a publish shard back because checkpoints are missing: their embed shards are computed again first.

        Uses an attempt of the publish shard, so that a disk that keeps nothing fails the job in the end.

        Returns
        -------
        int
            Embed shards that became pending.
        """
        _expect(lease, "publish")
        error = ResultCorrupt("Checkpoints of the job were missing or damaged when it was to be published.")
        with self._db.write("rewind") as connection:
            locked = transitions.lock_leased_job(connection, lease)
            transitions.audit(connection, lease, "failed", error.code)
            used = select(shard.c.attempts).where(shard.c.id == lease.shard_id)
            attempts = int(connection.execute(used).scalar_one()) + 1
            if not locked.wanted or attempts >= ATTEMPTS:
                transitions.end_lease(connection, lease, ShardState.FAILED, {"attempts": attempts})
                if locked.wanted:
                    transitions.end_job(connection, locked.id, JobState.FAILED, error.code, error.message)
                transitions.settle(connection, transitions.lock_leased_job(connection, lease))
                return 0
            transitions.end_lease(connection, lease, ShardState.CANCELLED, {"attempts": attempts})
            count = transitions.rewind(connection, locked)
            transitions.settle(connection, locked)
            return count

    def reap(self) -> ReapReport:
        """Take back the leases that ran out; see `worker.ledger.reaper`."""
        return reap(self._db)

    def remaining(self, job_id: str | None = None, remit: Remit = ANYTHING) -> int:
        """Return how many shards wait or are being worked on, of one job or of all, within a remit."""
        query = select(func.count()).select_from(shard).where(shard.c.state.in_(transitions.OPEN_SHARDS))
        if remit.encoders:
            query = query.where(shard.c.job_id.in_(select(job.c.id).where(job.c.encoder.in_(remit.encoders))))
        if set(remit.lanes) != set(Lane):
            query = query.where(shard.c.rank.in_([lane.rank for lane in remit.lanes]))
        with self._db.read() as connection:
            return connection.execute(query.where(*_of(job_id))).scalar_one()

    def next_due_s(self, job_id: str | None = None) -> float | None:
        """Return the seconds until the first waiting shard may be claimed, at least 0; None if none waits."""
        query = select(func.min(shard.c.not_before) - NOW).where(shard.c.state == ShardState.PENDING)
        with self._db.read() as connection:
            wait_s = connection.execute(query.where(*_of(job_id))).scalar_one_or_none()
        return None if wait_s is None else max(0.0, wait_s)


def _of(job_id: str | None) -> tuple[ColumnElement[bool], ...]:
    return () if job_id is None else (shard.c.job_id == job_id,)


def _expect(lease: Lease, kind: str) -> None:
    if lease.kind != kind:
        raise LedgerError(f"The lease is for a shard to {lease.kind}, not to {kind}.")
