"""The version alone, so that the build and the User-Agent read it from one place."""

__version__ = "0.1.0"
