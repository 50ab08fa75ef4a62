"""What the service is made of: module names below this package. A process imports its own lists."""

# Backing services, in the order in which they are attached: `connect` and `ping`.
RESOURCES: list[str] = [
    "postgres",
    # Yours below this line.
]

# Modules that define tables, for `alembic revision --autogenerate`.
TABLES: list[str] = [
    "invoices.store",
    # Yours below this line.
]

# Modules with a `router`.
ROUTES: list[str] = [
    "routes",
    "invoices.web",
    "invoices.webhook",
    # Yours below this line.
]

# Modules with jobs.
JOBS: list[str] = [
    "jobs",
    "invoices.jobs",
    # Yours below this line.
]

# Modules that say when which job is due.
SCHEDULES: list[str] = [
    "schedule",
    "invoices.schedule",
    # Yours below this line.
]
