"""What the service is made of: module names below this package. A process imports its own lists."""

# Backing services, in the order in which they are attached: `connect` and `ping`.
RESOURCES: list[str] = [
    "redis",
    # Yours below this line.
]

# Modules with jobs.
JOBS: list[str] = [
    "jobs",
    # Yours below this line.
]

# Modules that say when which job is due.
SCHEDULES: list[str] = [
    "schedule",
    # Yours below this line.
]
