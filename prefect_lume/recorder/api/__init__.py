"""What Prefect's server says of runs, and what the registry says of them."""
