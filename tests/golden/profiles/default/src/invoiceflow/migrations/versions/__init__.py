"""Migrations, each branch in its order; `bin/dev alembic revision` adds one to yours."""
