"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "coin",
        sa.Column("txid", sa.String(), nullable=False),
        sa.Column("vout", sa.Integer(), nullable=False),
        sa.Column("asset_id", sa.String(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.Column("branch", sa.Integer(), nullable=False),
        sa.Column("key_index", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("spent_txid", sa.String(), nullable=True),
        sa.Column("spent_height", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("txid", "vout"),
    )
    with op.batch_alter_table("coin", schema=None) as batch_op:
        batch_op.create_index("ix_coin_script", ["branch", "key_index"], unique=False)

    op.create_table(
        "cursor",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "own_tx",
        sa.Column("txid", sa.String(), nullable=False),
        sa.Column("purpose", sa.Integer(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("fee_sats", sa.Integer(), nullable=False),
        sa.Column("vsize", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("signed_height", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("replaces", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["replaces"],
            ["own_tx.txid"],
        ),
        sa.PrimaryKeyConstraint("txid"),
    )
    with op.batch_alter_table("own_tx", schema=None) as batch_op:
        batch_op.create_index("ix_own_tx_state", ["state"], unique=False)

    op.create_table(
        "reserved_outpoint",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("txid", sa.String(), nullable=False),
        sa.Column("vout", sa.Integer(), nullable=False),
        sa.Column("owner_txid", sa.String(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("reserved_outpoint", schema=None) as batch_op:
        batch_op.create_index("ix_reserved_outpoint_owner_txid", ["owner_txid"], unique=False)
        batch_op.create_index(
            "uq_reserved_outpoint_live",
            ["txid", "vout"],
            unique=True,
            sqlite_where=sa.text("live = 1"),
        )

    op.create_table(
        "swap",
        sa.Column("swap_id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("key_index", sa.Integer(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("asset_id", sa.String(), nullable=False),
        sa.Column("asset_amount", sa.Integer(), nullable=False),
        sa.Column("subsidy_sats", sa.Integer(), nullable=False),
        sa.Column("total_price_msat", sa.Integer(), nullable=False),
        sa.Column("max_total_price_msat", sa.Integer(), nullable=False),
        sa.Column("min_funding_confs", sa.Integer(), nullable=False),
        sa.Column("max_ln_cltv_blocks", sa.Integer(), nullable=False),
        sa.Column("buyer_claim_address", sa.String(), nullable=False),
        sa.Column("buyer_key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("seller_key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("payment_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.Column("fee_share_sats", sa.Integer(), nullable=False),
        sa.Column("refund_lock_height", sa.Integer(), nullable=True),
        sa.Column("funding_txid", sa.String(), nullable=True),
        sa.Column("asset_vout", sa.Integer(), nullable=True),
        sa.Column("subsidy_vout", sa.Integer(), nullable=True),
        sa.Column("bolt11", sa.String(), nullable=True),
        sa.Column("invoice_expires_at", sa.Integer(), nullable=True),
        sa.Column("invoice_mark", sa.Integer(), nullable=False),
        sa.Column("spend_txid", sa.String(), nullable=True),
        sa.Column("paid_unclaimed", sa.Boolean(), nullable=False),
        sa.Column("finished", sa.Boolean(), nullable=False),
        sa.Column("forced_refund_reason", sa.String(), nullable=True),
        sa.CheckConstraint("asset_amount > 0", name="ck_swap_amount"),
        sa.CheckConstraint("state BETWEEN 1 AND 5", name="ck_swap_state"),
        sa.ForeignKeyConstraint(
            ["funding_txid"],
            ["own_tx.txid"],
        ),
        sa.PrimaryKeyConstraint("swap_id"),
        sa.UniqueConstraint("key_index"),
        sa.UniqueConstraint("payment_hash"),
        sa.UniqueConstraint("request_id"),
    )
    with op.batch_alter_table("swap", schema=None) as batch_op:
        batch_op.create_index("ix_swap_funding_txid", ["funding_txid"], unique=False)
        batch_op.create_index("ix_swap_open", ["finished", "state"], unique=False)

    op.create_table(
        "event",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("swap_id", sa.String(), nullable=False),
        sa.Column("from_state", sa.Integer(), nullable=True),
        sa.Column("to_state", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(), nullable=False),
        sa.Column("txid", sa.String(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["swap_id"],
            ["swap.swap_id"],
        ),
        sa.PrimaryKeyConstraint("seq"),
    )
    with op.batch_alter_table("event", schema=None) as batch_op:
        batch_op.create_index("ix_event_swap_id", ["swap_id"], unique=False)

    op.create_table(
        "request",
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("parameter_hash", sa.LargeBinary(), nullable=False),
        sa.Column("swap_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["swap_id"],
            ["swap.swap_id"],
        ),
        sa.PrimaryKeyConstraint("request_id"),
    )
    op.create_table(
        "reservation",
        sa.Column("swap_id", sa.String(), nullable=False),
        sa.Column("asset_id", sa.String(), nullable=False),
        sa.Column("asset_amount", sa.Integer(), nullable=False),
        sa.Column("lbtc_sats", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["swap_id"],
            ["swap.swap_id"],
        ),
        sa.PrimaryKeyConstraint("swap_id"),
    )
