"""Alembic migrations. Each runs in one transaction, under an advisory lock, with short lock timeouts."""
