"""Faults on real stacks, under load, judged by one ledger. `make chaos` runs the long form."""
