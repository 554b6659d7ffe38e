"""Transactions that replace one another belong to one family."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("own_tx", schema=None) as batch_op:
        batch_op.add_column(sa.Column("family", sa.String(), nullable=False, server_default=""))
        batch_op.create_index("ix_own_tx_family", ["family"], unique=False)
    connection = op.get_bind()
    connection.execute(sa.text("UPDATE own_tx SET family = txid"))
    older = {
        str(txid): str(replaces)
        for txid, replaces in connection.execute(
            sa.text("SELECT txid, replaces FROM own_tx WHERE replaces IS NOT NULL")
        )
    }
    for txid in older:
        first = txid
        while first in older:
            first = older[first]
        connection.execute(
            sa.text("UPDATE own_tx SET family = :first WHERE txid = :txid"),
            {"first": first, "txid": txid},
        )
