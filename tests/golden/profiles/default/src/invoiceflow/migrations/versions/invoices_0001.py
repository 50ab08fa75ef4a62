"""Invoices and payments of the worked example."""

import sqlalchemy as sa
from alembic import op

revision = "invoices_0001"
down_revision = None
branch_labels = ("invoices",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "invoices",
        sa.Column("id", sa.Uuid(), server_default=sa.func.gen_random_uuid(), primary_key=True),
        sa.Column("customer", sa.String(), nullable=False),
        sa.Column("amount_cents", sa.Integer(), nullable=False),
        sa.Column("due_on", sa.Date(), nullable=False, index=True),
        sa.Column("status", sa.String(), server_default="open", nullable=False),
        sa.Column(
            "created_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False
        ),
    )
    op.create_table(
        "payments",
        sa.Column("event_id", sa.String(), primary_key=True),
        sa.Column(
            "invoice_id", sa.Uuid(), sa.ForeignKey("invoices.id"), index=True, nullable=False
        ),
        sa.Column("settled_at", sa.TIMESTAMP(timezone=True)),
    )
