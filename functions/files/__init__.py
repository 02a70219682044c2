"""Managed files: what clients ask of them, and the worker that moves their bytes to and from the providers."""
