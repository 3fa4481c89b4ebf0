"""Results databases, where LUME-services had them.

See :mod:`prefect_lume.results.stores`.
"""
