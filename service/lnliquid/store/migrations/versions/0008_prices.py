"""Prices that the operator sets while the daemon runs; rows are only ever added."""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "price",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("asset_id", sqlmodel.AutoString(), nullable=False),
        sa.Column("msat_per_unit", sa.Integer(), nullable=True),
        sa.Column("valid_until", sa.Integer(), nullable=True),
        sa.Column("at", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_index("ix_price_asset", "price", ["asset_id", "seq"])
