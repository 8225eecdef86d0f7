"""Alembic's environment: runs migrations on the connection that the caller opened."""

from __future__ import annotations

from alembic import context

from mlops_kit.db.schema import VERSION_TABLE_NAME
from mlops_kit.db.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE_NAME,
    render_as_batch=True,  # SQLite cannot alter a column in place
)
with context.begin_transaction():
    context.run_migrations()
