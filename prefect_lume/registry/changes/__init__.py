"""Changing the registry, inside a caller's transaction, each change with its event.

Whatever changes a model's deployments, or what points at them, locks the model's row
first: changes of one model come one after the other, those of different models do not
wait for each other.
"""
