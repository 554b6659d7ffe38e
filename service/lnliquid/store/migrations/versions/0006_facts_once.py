"""Each fact is stored once.

A request's parameters and what is reserved for it are in the swap's row. What could not be read is
a column of the transaction and no longer the name of a cursor.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.drop_table("reservation")
    op.drop_table("request")
    op.create_index(
        "ix_swap_waiting",
        "swap",
        ["key_index"],
        sqlite_where=sa.text("funding_txid IS NULL AND finished IS 0"),
    )
    unread: sa.Column[bool] = sa.Column(
        "unread", sa.Boolean(), nullable=False, server_default=sa.text("0")
    )
    op.add_column("own_tx", unread)
    op.create_index("ix_own_tx_unread", "own_tx", ["txid"], sqlite_where=sa.text("unread IS 1"))
    named = "FROM cursor WHERE name LIKE 'own$_tx$_unread:%' ESCAPE '$'"
    op.execute(
        f"UPDATE own_tx SET unread = 1 WHERE 'own_tx_unread:' || txid IN (SELECT name {named})"  # noqa: S608  # no outside value
    )
    op.execute(f"DELETE {named}")
