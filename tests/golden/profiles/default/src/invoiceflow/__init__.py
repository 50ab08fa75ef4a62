"""One module per concern; `python -m` with a process type of the Procfile runs it."""
