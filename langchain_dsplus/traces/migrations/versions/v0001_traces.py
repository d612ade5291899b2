"""The table of rows."""

from __future__ import annotations

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and its indexes."""
    import sqlalchemy as sa
    from alembic import op

    op.create_table(
        "dsplus_traces",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("uid", sa.String(40), nullable=False, unique=True),
        sa.Column("time_us", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("route_id", sa.Text(), nullable=False),
        sa.Column("router", sa.Text()),
        sa.Column("model", sa.Text()),
        sa.Column("accepted", sa.Boolean()),
        sa.Column("reason", sa.Text()),
        sa.Column("certificate", sa.Text()),
        sa.Column("cost", sa.Float(53)),
        sa.Column("body", sa.Text(), nullable=False),
        sqlite_autoincrement=True,  # numbers of deleted rows are not given again
    )
    op.create_index("dsplus_traces_time", "dsplus_traces", ["time_us"])
    op.create_index("dsplus_traces_route", "dsplus_traces", ["route_id"])
