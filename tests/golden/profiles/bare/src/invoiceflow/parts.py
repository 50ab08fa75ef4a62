"""What the service is made of: module names below this package. A process imports its own lists."""

# Backing services, in the order in which they are attached: `connect` and `ping`.
RESOURCES: list[str] = [
    # Yours below this line.
]

# Modules with a `router`.
ROUTES: list[str] = [
    "routes",
    # Yours below this line.
]

# Modules that `measure` what /metrics shows, when it is asked for.
METRICS: list[str] = [
    # Yours below this line.
]
