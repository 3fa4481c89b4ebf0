"""Results in any SQL database: see ``service``."""
