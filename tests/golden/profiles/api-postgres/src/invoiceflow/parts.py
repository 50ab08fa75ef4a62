"""What the service is made of: module names below this package. A process imports its own lists."""

# Backing services, in the order in which they are attached: `connect` and `ping`.
RESOURCES: list[str] = [
    "postgres",
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
    # Yours below this line.
]

# Modules that `measure` what /metrics shows, when it is asked for.
METRICS: list[str] = [
    # Yours below this line.
]
