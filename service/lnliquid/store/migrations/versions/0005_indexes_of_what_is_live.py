"""Indexes for what is live, so that no query reads all that ever was."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index(
        "ix_swap_unclaimed", "swap", ["key_index"], sqlite_where=sa.text("paid_unclaimed IS 1")
    )
    live = "uq_reserved_outpoint_live"
    op.drop_index(live, "reserved_outpoint")
    op.create_index(
        live, "reserved_outpoint", ["txid", "vout"], unique=True, sqlite_where=sa.text("live IS 1")
    )
    op.create_index(
        "ix_coin_unspent", "coin", ["asset_id"], sqlite_where=sa.text("spent_txid IS NULL")
    )
    op.create_index("ix_coin_spent_height", "coin", ["spent_height"])
    op.drop_index("ix_own_tx_state", "own_tx")
    op.create_index("ix_own_tx_state", "own_tx", ["state", "height"])
