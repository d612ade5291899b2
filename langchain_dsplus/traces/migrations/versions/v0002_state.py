"""The table of state that processes and hosts share."""

from __future__ import annotations

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    import sqlalchemy as sa
    from alembic import op

    op.create_table(
        "dsplus_state",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("serial", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
    )
