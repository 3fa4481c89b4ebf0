"""The registry's commands: ``models``, ``deployments``, ``projects``, ``flows``."""
