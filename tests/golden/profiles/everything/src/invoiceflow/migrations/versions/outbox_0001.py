"""The outbox: jobs on their way to the broker, keys under which one waits, times of the clock."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "outbox_0001"
down_revision = None
branch_labels = ("outbox",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), primary_key=True),
        sa.Column("job", sa.String(), nullable=False),
        sa.Column("arguments", postgresql.JSONB(), nullable=False),
        sa.Column("context", postgresql.JSONB(), nullable=False),
        sa.Column("key", sa.String()),
    )
    op.create_table(
        "outbox_keys",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("id", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "outbox_ticks",
        sa.Column("job", sa.String(), primary_key=True),
        sa.Column("cron", sa.String(), primary_key=True),
        sa.Column("last", sa.TIMESTAMP(timezone=True), nullable=False),
    )
    op.execute(
        "create function outbox_notify() returns trigger language plpgsql as"
        " $$ begin notify outbox; return null; end $$"
    )
    op.execute(
        "create trigger outbox_notify after insert on outbox"
        " for each statement execute function outbox_notify()"
    )
