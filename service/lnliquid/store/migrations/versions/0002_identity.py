"""Whose database it is: wallet, network, and an id of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # Empty: the first start with keys fills it, once they are known to fit what is stored.
    op.create_table(
        "identity",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
