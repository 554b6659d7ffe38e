"""Withdrawals: what the operator sends out of the wallet, each named by a request id."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "withdrawal",
        sa.Column("request_id", sqlmodel.AutoString(), nullable=False),
        sa.Column("asset_id", sqlmodel.AutoString(), nullable=False),
        sa.Column("amount", sa.Integer(), nullable=False),
        sa.Column("is_all", sa.Boolean(), nullable=False),
        sa.Column("address", sqlmodel.AutoString(), nullable=False),
        sa.Column("script_pubkey", sa.LargeBinary(), nullable=False),
        sa.Column("family", sqlmodel.AutoString(), nullable=False),
        sa.Column("created_at", sa.Integer(), nullable=False),
        sa.CheckConstraint("amount > 0", name="ck_withdrawal_amount"),
        sa.ForeignKeyConstraint(["family"], ["own_tx.txid"]),
        sa.PrimaryKeyConstraint("request_id"),
        sa.UniqueConstraint("family"),
    )
