"""Time that passes in a ledger without anybody waiting for it."""

from tests.services.command import Slidewire


def leases_run_out(slidewire: Slidewire) -> int:
    """Let every lease be over, as if its worker had been silent for long; return how many there were."""
    return _write(slidewire, "UPDATE shard SET lease_until = 0 WHERE state = 'leased'")


def waits_are_over(slidewire: Slidewire) -> int:
    """Let every shard be due that waits for another try; return how many there were."""
    return _write(slidewire, "UPDATE shard SET not_before = 0 WHERE state = 'pending' AND not_before > 0")


def pauses_are_over(slidewire: Slidewire) -> int:
    """Let every server be asked again that is left alone; return how many there were."""
    return _write(slidewire, "UPDATE endpoint SET open_until = 0, probe_until = 0 WHERE state <> 'closed'")


def nothing_waits(slidewire: Slidewire) -> None:
    """Let the waits of shards and the pauses of servers be over, as if minutes had gone by."""
    waits_are_over(slidewire)
    pauses_are_over(slidewire)


def waited_for_server(slidewire: Slidewire, hours: float) -> int:
    """Let shards that wait for a server have waited for so much longer; return how many there were."""
    longer = f"UPDATE shard SET deferred_at = deferred_at - {hours * 3600} WHERE deferred_at IS NOT NULL"
    return _write(slidewire, longer)


def _write(slidewire: Slidewire, statement: str) -> int:
    with slidewire.ledger() as connection:
        count = connection.exec_driver_sql(statement).rowcount
        connection.commit()
    return count
