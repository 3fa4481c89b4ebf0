"""Engines and clients: made once per process, translated errors, closed at exit."""
