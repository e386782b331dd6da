"""The scaler: decides how many machines each pool has, and has executors start and stop them.

    backlog (app/db/pools.py) ─► decide (app/domain/scaling.py) ─► steps ─► executor

An executor is what a pool's machines are started and stopped by, one file each.
"""
