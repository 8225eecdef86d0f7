"""Migrations of the project's database: an Alembic environment that opening a database runs.

A migration is one transaction, after a backup of a SQLite file. There are no downgrades: to go
back, restore the backup.

To change the tables:

1. edit ``mlops_kit/db/tables.py``,
2. run ``python -m mlops_kit.db.migrations new "what changes"``, which writes the difference as a
   new file in ``versions/``,
3. read that file, and add what happens to the rows that exist,
4. set ``HEAD_REVISION`` in ``mlops_kit/db/schema.py`` to the new revision.

``tests/unit/db/test_migrations.py`` fails while ``tables.py`` and the migrations differ.
"""
