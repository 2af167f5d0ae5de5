"""What Alembic runs: the revisions, inside the transaction that `worker.ledger.migration` hands over.

The rule for revisions, from 0005 on: they only add. Workers of the version before run while a ledger is migrated, and
end their jobs after. So no table, column, index or constraint goes, gets another name, another type or another meaning;
a new column is nullable or has a server default, as older processes insert rows without it; and an existing table gets
no new constraint. There is no way down: who goes back restores a backup.
`tests/unit/worker/ledger/test_migration.py` walks the revisions.
"""

from alembic import context

from worker.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
