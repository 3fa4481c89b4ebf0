"""Following a whole Prefect server."""
