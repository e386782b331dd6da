"""Redis and Celery: doorbells, wake-ups, and nothing that would be missed. Losing it costs latency only."""
