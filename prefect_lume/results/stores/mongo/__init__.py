"""Results in MongoDB, or what speaks its protocol: see ``service``."""
