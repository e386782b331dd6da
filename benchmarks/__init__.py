"""Benchmarks: one file a subject. `make bench` runs the short form of all; see README.md."""
