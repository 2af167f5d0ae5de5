"""What Alembic runs: the revisions, inside the transaction that `worker.ledger.migration` hands over."""

from alembic import context

from worker.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
