"""The tables of the ledger. Times are float seconds since 1970 by the database's own clock.

A change here needs a revision in ``migrations/versions``; a test holds the two together.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _notice() -> tuple[Column[str], Column[float], Column[int]]:
    """Return the columns of what the webhook is to be told: whether, not before when, and how often it was tried."""
    return (
        Column("notice", String(8), nullable=False, server_default=""),  # "": nothing; due, sent, given-up
        Column("notice_at", Double, nullable=False, server_default="0"),
        Column("notice_tries", Integer, nullable=False, server_default="0"),
    )


job = Table(
    "job",
    metadata,
    Column("serial", Integer, primary_key=True, autoincrement=True),  # order of submission
    Column("id", String(32), nullable=False, unique=True),
    Column("key", Text, nullable=False, unique=True),
    Column("result_key", Text, nullable=False),
    Column("encoder", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("lane", String(16), nullable=False, server_default="standard"),
    Column("endpoint", Text, nullable=False, server_default=""),
    Column("request", JSON, nullable=False),
    Column("plan", LargeBinary, nullable=False),
    Column("plan_sha256", String(64), nullable=False, server_default=""),
    Column("patches", Integer, nullable=False),
    Column("holes", Integer, nullable=False, server_default="0"),
    Column("cancel_requested", Boolean, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("outputs", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    *_notice(),
    Index("ix_job_state_serial", "state", "serial"),
    Index("ix_job_notice", "notice", "notice_at"),
)

shard = Table(
    "shard",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("job_id", String(32), ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("idx", Integer, nullable=False),
    Column("start", Integer, nullable=False),
    Column("stop", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    # Copies of its endpoint, of the rank of its lane, and of its serial: one index gives the order of claims.
    Column("endpoint", Text, nullable=False, server_default=""),
    Column("rank", Integer, nullable=False),
    Column("turn", Integer, nullable=False),
    # Of its encoder and its endpoint: see `worker.ledger.queues`; "" if an older Slidewire has inserted it.
    Column("queue", Text, nullable=False, server_default=""),
    # The lease.
    Column("epoch", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("lease_until", Double),
    Column("claimed_at", Double),
    Column("note", Text, nullable=False, server_default=""),  # where its worker was at the last heartbeat
    Column("patches_done", Integer, nullable=False),
    # Retries; and since when it waits for an endpoint that answers nobody.
    Column("not_before", Double, nullable=False),
    Column("deferred_at", Double),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    # The outbox: which doorbell was rung last, and when.
    Column("dispatch_no", Integer, nullable=False),
    Column("rung_at", Double),
    Column("updated_at", Double, nullable=False),
    # Also what makes a second publish shard impossible: its index is the number of embed shards.
    UniqueConstraint("job_id", "idx"),
    # The last column lets claims pass over shards that back off without looking at their rows.
    Index("ix_shard_claim", "state", "endpoint", "rank", "turn", "idx", "not_before"),
    # For claims of certain encoders. The endpoint is in the queue's name: were it a column here, the index above would
    # give the same order, and a planner that prefers it walks over the shards of all other encoders.
    Index(
        "ix_shard_queue",
        "queue",
        "rank",
        "turn",
        "idx",
        "not_before",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index("ix_shard_lease", "state", "lease_until"),
    Index("ix_shard_rung", "state", "rank", "endpoint", "rung_at", "not_before"),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("shard_id", String(32), ForeignKey("shard.id", ondelete="CASCADE"), primary_key=True),
    Column("first_batch", Integer, primary_key=True, autoincrement=False),
    Column("batches", Integer, nullable=False),
    Column("patches", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("name", Text, nullable=False),  # of the file inside the job's folder
    Column("created_at", Double, nullable=False),
)

attempt = Table(  # append-only: who had which shard, and how it ended
    "attempt",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("shard_id", String(32), ForeignKey("shard.id", ondelete="CASCADE"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("owner", Text, nullable=False),
    Column("event", String(16), nullable=False),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
    Column("at", Double, nullable=False),
    Index("ix_attempt_shard_id", "shard_id"),
)

endpoint = Table(  # what the fleet knows of a server: its breaker, its token bucket
    "endpoint",
    metadata,
    Column("key", Text, primary_key=True),
    Column("state", String(8), nullable=False),  # closed, open, denied
    Column("code", Text, nullable=False),  # of the error that opened it
    Column("outcomes", String(20), nullable=False),  # of the last calls, the newest last: "." good, "x" bad
    Column("trips", Integer, nullable=False),  # how often in a row it opened
    Column("open_until", Double, nullable=False),
    Column("probe_until", Double, nullable=False),  # while it is half open, one shard tries
    Column("succeeded_at", Double, nullable=False),
    Column("tokens", Double, nullable=False),
    Column("tokens_at", Double, nullable=False),
)

backfill = Table(  # an archive that is worked through, and how far it has been searched
    "backfill",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("key", String(64), nullable=False, unique=True),
    Column("wanted", JSON, nullable=False),
    # The cursor: days that are being searched ("" for no bound), studies of them that were seen, the page before.
    Column("first_day", String(10), nullable=False),
    Column("last_day", String(10), nullable=False),
    Column("seen", Integer, nullable=False),
    Column("page", String(64), nullable=False),
    Column("listed", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

backfill_item = Table(  # a series that a backfill found, and what became of it
    "backfill_item",
    metadata,
    Column("serial", Integer, primary_key=True, autoincrement=True),
    Column("backfill_id", String(32), ForeignKey("backfill.id", ondelete="CASCADE"), nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("code", Text, nullable=False),
    Column("job_id", String(32), nullable=False),  # "" as long as there is none
    Column("patches", Integer, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("backfill_id", "study_uid", "series_uid"),
    Index("ix_backfill_item_state", "backfill_id", "state", "serial"),
)

watch = Table(  # an endpoint that is watched, and how far its events and its archive have been read
    "watch",
    metadata,
    Column("endpoint", Text, primary_key=True),
    # The event log: the last number read, and what that entry was; another one under it is another log.
    Column("cursor", BigInteger, nullable=False),
    Column("mark", Text, nullable=False),
    Column("read_at", Double),
    # The reconciliation under way, as in a backfill; and when the last one ended.
    Column("first_day", String(10), nullable=False),
    Column("last_day", String(10), nullable=False),
    Column("seen", Integer, nullable=False),
    Column("page", String(64), nullable=False),
    Column("listed", Boolean, nullable=False),
    Column("reconciled_at", Double),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

arrival = Table(  # a series that has come into a watched archive, and what became of it
    "arrival",
    metadata,
    Column("serial", Integer, primary_key=True, autoincrement=True),
    Column("endpoint", Text, nullable=False),
    Column("study_uid", String(64), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("calling_aet", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("code", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("job_id", String(32), nullable=False),  # "" as long as there is none
    Column("set_sha256", String(64), nullable=False),  # of the instances that were decided on last; "": none were
    Column("instances", Integer, nullable=False),  # of the series, as far as is known
    Column("version", Integer, nullable=False),  # rises with every event: a decision about an older one does not count
    Column("tries", Integer, nullable=False),
    # When it was seen first (since it was last decided on) and last, is to be looked at, and is late.
    Column("first_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("due_at", Double, nullable=False),
    Column("deadline_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    *_notice(),
    UniqueConstraint("endpoint", "study_uid", "series_uid"),
    Index("ix_arrival_due", "endpoint", "state", "due_at"),
    Index("ix_arrival_notice", "notice", "notice_at"),
)
