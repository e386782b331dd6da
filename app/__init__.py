"""Headrace: the kernel and the HTTP edge. Imports nothing, so that reading the version is free."""

__version__ = "0.1.0"
