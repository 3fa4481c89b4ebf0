"""A model package for the tests of the model API."""
