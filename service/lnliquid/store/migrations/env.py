"""Alembic environment: runs on the connection that the program opened, in its transaction."""

from alembic import context
from sqlmodel import SQLModel

import lnliquid.store.tables  # noqa: F401  (registers the tables)

connection = context.config.attributes.get("connection")
if connection is None:  # the alembic command line, to write a new migration
    from sqlalchemy import create_engine

    connection = create_engine(context.config.get_main_option("sqlalchemy.url") or "").connect()

context.configure(
    connection=connection,
    target_metadata=SQLModel.metadata,
    # SQLite can roll back DDL; each migration and its record commit together.
    transactional_ddl=True,
    transaction_per_migration=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
