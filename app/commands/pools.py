"""`headracectl pools`: how many machines each pool has and should have, for what, at what price."""

from typing import Any

import click

from app.commands.common import as_json, operator_command, show
from app.db import pools as sql
from app.db.engine import make_engine
from app.domain import pools as declared
from app.domain.pools import Pool
from app.errors import SettingsError
from app.settings import Settings

COLUMNS = [
    "pool",
    "purchase",
    "desired",
    "reason",
    "running",
    "starting",
    "draining",
    "backlog_s",
    "cost_per_hour",
]


@click.command()
@as_json
@operator_command
def pools(settings: Settings, as_json: bool) -> None:
    """Show every pool: machines desired, running, starting and draining, its backlog and its cost now.

    Backlog is in seconds of one slot. What the scaler decided is empty if it has not run in the last minute.
    """
    if settings.pools_file is None:
        raise SettingsError(["HEADRACE_POOLS_FILE is not set: no pools are declared"])
    known = declared.read(settings.pools_file)
    engine = make_engine(settings.database_url)
    backlogs, states = sql.backlogs(engine), sql.states(engine)
    rows = []
    for pool in known:
        state = states.get(pool.name)
        backlog_s = sum(backlogs[queue].work_s for queue in pool.queues if queue in backlogs)
        rows.append(_row(pool, state if state and state.fresh else None, backlog_s))
    show(rows, COLUMNS, as_json=as_json)


def _row(pool: Pool, state: Any, backlog_s: float) -> dict[str, Any]:
    machines = state.running + state.starting + state.draining if state else 0
    return {
        "pool": pool.name,
        "queues": list(pool.queues),
        "purchase": pool.purchase,
        "executor": pool.executor,
        "slots": pool.slots,
        "min": pool.min,
        "max": pool.max,
        "desired": state.desired if state else None,
        "reason": state.reason if state else None,
        "running": state.running if state else None,
        "starting": state.starting if state else None,
        "draining": state.draining if state else None,
        "backlog_s": round(backlog_s, 1),
        "cost_per_hour": round(machines * pool.price_per_hour, 4),
        "decided_at": state.decided_at if state else None,
    }
