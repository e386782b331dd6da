"""Whose rows the API may touch, statement by statement.

The API's role is held by row-level security (`app/db/roles.py`): a connection says for which tenants it
works, and Postgres shows it no row of any other. Who works for nobody sees nothing, so what forgets to say it
fails.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Connection, Engine, event, text

SETTING = "headrace.tenants"
"""The name of Postgres's setting: ids of tenants with commas between them, or `*` for operators."""

_NOBODY, _OPERATORS = "", "*"
_tenants: ContextVar[str] = ContextVar("tenants", default=_NOBODY)
# For the session, or for the transaction.
_SET = f"SELECT set_config('{SETTING}', %s, false)"
_SET_LOCAL = text(f"SELECT set_config('{SETTING}', :tenants, true)")
_KNOWN = "tenants"


def work_for(tenant_id: int | None) -> None:
    """From here on this thread or greenlet works for this tenant; None: for nobody."""
    _tenants.set(_NOBODY if tenant_id is None else str(tenant_id))


def work_for_operators() -> None:
    """From here on it works for operators: it sees every tenant and key, and nothing that is a tenant's."""
    _tenants.set(_OPERATORS)


@contextmanager
def on_behalf_of(tenant_ids: Iterable[int]) -> Iterator[None]:
    """Within, it works for these tenants."""
    with _within(",".join(map(str, sorted(set(tenant_ids))))):
        yield


@contextmanager
def on_behalf_of_operators() -> Iterator[None]:
    """Within, it works for operators: to find out who somebody is."""
    with _within(_OPERATORS):
        yield


@contextmanager
def _within(tenants: str) -> Iterator[None]:
    before = _tenants.set(tenants)
    try:
        yield
    finally:
        _tenants.reset(before)


def say_at_checkout(engine: Engine) -> None:
    """Have each connection that leaves the pool say whom it works for, unless it said so last time."""

    @event.listens_for(engine, "checkout")
    def say(connection: object, record: object, _proxy: object) -> None:
        tenants = _tenants.get()
        known = record.info  # type: ignore[attr-defined]
        if known.get(_KNOWN) != tenants:
            connection.execute(_SET, (tenants,))  # type: ignore[attr-defined]
            known[_KNOWN] = tenants


def say_in_transaction(connection: Connection) -> None:
    """Say it for this transaction alone: behind a pooler the next one has another connection."""
    connection.execute(_SET_LOCAL, {"tenants": _tenants.get()})
