"""What Alembic runs: the steps, on the connection and in the transaction that the store holds."""

from __future__ import annotations


def _run() -> None:
    from alembic import context

    given = context.config.attributes
    context.configure(connection=given["connection"], version_table=given["version_table"])
    with context.begin_transaction():
        context.run_migrations()


_run()
