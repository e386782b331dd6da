"""The clerk: the process that keeps the books of batches. One Celery worker on the queue `batches`.

    gather ─► validate ─► ingest ─► (workers run the jobs) ─► finalize
                  └─────────┴── cancel

`clerk` takes the batches that are due, one at a time; every other file is one step. A step works for a slice,
under a lease that each of its writes repeats, and leaves behind what the next one needs to go on.
"""
