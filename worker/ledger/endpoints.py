"""What the fleet knows of the servers it reads from."""

from sqlalchemy import Connection, select

from worker.ledger.schema import endpoint


def answered_since(connection: Connection, key: str, since: float) -> bool:
    """Whether a call of any worker to the endpoint has succeeded since a moment (seconds since 1970).

    An endpoint of which nothing is known counts as one that answers.
    """
    found = connection.execute(select(endpoint.c.succeeded_at).where(endpoint.c.key == key)).scalar_one_or_none()
    return found is None or found >= since
