"""What the service is made of: module names below this package. A process imports its own lists."""

# Backing services, in the order in which they are attached: `connect` and `ping`.
RESOURCES: list[str] = [
    "postgres",
    "redis",
    "s3",
    # Yours below this line.
]

# Modules that define tables, for `alembic revision --autogenerate`.
TABLES: list[str] = [
    "invoices.store",
    "invoices.accounts",
    "invoices.reminders",
    # Yours below this line.
]

# Modules with a `router`.
ROUTES: list[str] = [
    "routes",
    "invoices.web",
    "invoices.webhook",
    "invoices.login",
    "invoices.documents",
    # Yours below this line.
]

# Modules that `measure` what /metrics shows, when it is asked for.
METRICS: list[str] = [
    "queue_metrics",
    # Yours below this line.
]

# Modules with jobs.
JOBS: list[str] = [
    "jobs",
    "invoices.jobs",
    "invoices.pdf",
    "invoices.dunning",
    # Yours below this line.
]

# Modules that say when which job is due.
SCHEDULES: list[str] = [
    "schedule",
    "invoices.schedule",
    # Yours below this line.
]
