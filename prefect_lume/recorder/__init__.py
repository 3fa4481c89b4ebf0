"""Recording what Prefect runs, in process or by following its server."""
