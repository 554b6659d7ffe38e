"""The ids of blocks, and the height that a final swap rests on, to notice and undo deep reorgs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "block",
        sa.Column("height", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("block_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("height"),
    )
    op.add_column("swap", sa.Column("final_height", sa.Integer(), nullable=True))
    op.create_index("ix_swap_final_height", "swap", ["final_height"])
    # Heights of spends were not kept. None is above the tip at which the daemon last looked.
    op.execute(
        "UPDATE swap SET final_height = coalesce("
        "(SELECT value FROM cursor WHERE name = 'own_txs_checked_height'), 0) "
        "WHERE finished = 1 AND funding_txid IS NOT NULL"
    )
