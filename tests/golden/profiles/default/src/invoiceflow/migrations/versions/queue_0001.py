"""The tables of the job queue, as its library makes them."""

from alembic import op
from procrastinate.schema import SchemaManager

revision = "queue_0001"
down_revision = None
branch_labels = ("queue",)
depends_on = None


def upgrade() -> None:
    # The driver reads % as a parameter.
    op.get_bind().exec_driver_sql(SchemaManager.get_schema().replace("%", "%%"))
