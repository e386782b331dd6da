"""The spot agent: hears that this machine will be taken away, and has the worker leave in time."""
