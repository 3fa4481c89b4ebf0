"""Prefect's events, states and histories of runs as changes and facts."""
