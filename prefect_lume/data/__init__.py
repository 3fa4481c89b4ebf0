"""The import paths of LUME-services, for code that comes from there.

Code that imported from ``lume_services.data`` runs with nothing but the package's name
changed. New code imports from :mod:`prefect_lume.results`.
"""
