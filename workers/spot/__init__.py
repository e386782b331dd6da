"""The spot agent: hears from the cloud that this machine will be taken away, and has the worker leave in time."""
