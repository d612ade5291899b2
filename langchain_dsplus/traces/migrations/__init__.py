"""The trace store's tables, one step per version; Alembic runs them."""
