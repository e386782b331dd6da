"""Periodic work, each kind a named service: rescue, promote, expire, sweep, measure, prune.

All of it is idempotent and guarded by an advisory lock, so any number of schedulers may run.
"""
