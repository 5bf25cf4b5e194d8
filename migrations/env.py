"""Runs the revisions on the connection that `ledger/database/migrate.py` hands over in `attributes["connection"]`.

Two processes may migrate at once: an advisory lock, which goes with the connection, lets one wait for the other. A
migration that cannot get a table's lock gives up instead of queueing every reader of that table behind itself.
"""

from alembic import context

from migrations import ADVISORY_LOCK

connection = context.config.attributes["connection"]
connection.exec_driver_sql("SET statement_timeout = '10min'")
connection.exec_driver_sql("SET lock_timeout = '10min'")
connection.exec_driver_sql(f"SELECT pg_advisory_lock({ADVISORY_LOCK})")
connection.exec_driver_sql("SET lock_timeout = '5s'")
connection.commit()

context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
