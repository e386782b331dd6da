"""What a stack consists of: its servers, its addresses, its programs and their environment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import urlsplit

from app.domain import pools
from app.domain.pools import Pool
from app.embedded import leftovers, programs, valkey
from app.embedded.errors import StackError
from app.embedded.ports import LOOPBACK, Ports
from app.embedded.postgres import Postgres
from app.embedded.program import Program
from app.embedded.programs import Worker
from app.embedded.state import StateDir

_MOST_MACHINES = 64


@dataclass(frozen=True)
class Options:
    """What the user asked `up` for."""

    port: int | None = None
    workers: Sequence[Worker] = ()
    models: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """A stack that can be started."""

    # What `DIR/env` will say.
    env: Mapping[str, str]
    # What the processes get.
    environ: Mapping[str, str]
    workers: Sequence[Worker]
    programs: Sequence[Program]
    # The embedded Postgres and its port; None when the user's own is used.
    postgres: tuple[Postgres, int] | None
    # Folders above our files that Postgres's user may pass through now, and could not before.
    opened: Sequence[Path]


def make(state: StateDir, options: Options, environ: Mapping[str, str]) -> Plan:
    """Decide everything. Makes the servers' data folders and passwords where they are missing.

    What the environment says comes first, then what the last `up` wrote to `DIR/env`: addresses
    and keys stay the same from one `up` to the next as long as their ports are free.
    """
    local = _local_pools(environ)
    workers = list(options.workers) or ([] if local else programs.default_workers())
    taken = [worker.name for worker in [*workers, *programs.OWN]] + [pool.name for pool in local]
    if len(set(taken)) < len(taken):
        raise StackError(
            "--worker: each worker and pool needs a name of its own; `sender` and `clerk` are taken"
        )
    last = state.read_env()
    told = {**last, **environ}
    ports = Ports()
    servers: list[Program] = []

    last_port = _port(last.get("HEADRACE_URL"))
    api_port = ports.take(last_port) if options.port is None else ports.claim(options.port)
    flower_port = ports.take(_port(last.get("HEADRACE_FLOWER_URL")))
    flower_login = f"{programs.FLOWER_USER}:{state.password('flower')}"

    database_url = told.get("HEADRACE_DATABASE_URL", "")
    api_database_url = told.get("HEADRACE_API_DATABASE_URL", "")
    postgres = None
    opened: list[Path] = []
    if _is_embedded(api_database_url, state.password("postgres-api")):
        api_database_url = ""
    if _is_embedded(database_url, state.password("postgres")):
        server, port = Postgres(state.postgres, state.password("postgres")), ports.take(_port(database_url))
        opened = server.prepare()
        database_url = server.url(port)
        api_database_url = server.api_url(port, state.password("postgres-api"))
        servers.append(server.program(port))
        postgres = (server, port)

    redis_url = told.get("HEADRACE_REDIS_URL", "")
    if _is_embedded(redis_url, state.password("valkey")):
        port = ports.take(_port(redis_url))
        redis_url = valkey.url(port, state.password("valkey"))
        servers.append(valkey.program(state.valkey, port, state.password("valkey")))

    env = {
        "HEADRACE_URL": f"http://{LOOPBACK}:{api_port}",
        "HEADRACE_API_KEY": told.get("HEADRACE_API_KEY", ""),
        "HEADRACE_DATABASE_URL": database_url,
        **({"HEADRACE_API_DATABASE_URL": api_database_url} if api_database_url else {}),
        "HEADRACE_REDIS_URL": redis_url,
        "HEADRACE_FLOWER_URL": f"http://{flower_login}@{LOOPBACK}:{flower_port}",
        "HEADRACE_SECRET_KEY": told.get("HEADRACE_SECRET_KEY") or token_urlsafe(48),
        "HEADRACE_STORAGE_URL": _storage_url(state, told, last),
        "HEADRACE_STATE_DIR": str(state.root),
        "HEADRACE_METRICS_DIR": str(state.metrics),
        "HEADRACE_ALLOW_LOCAL_WEBHOOKS": told.get("HEADRACE_ALLOW_LOCAL_WEBHOOKS", "true"),
    }
    if local:
        # Processes have another working folder than whoever ran `up`.
        env["HEADRACE_POOLS_FILE"] = str(Path(environ["HEADRACE_POOLS_FILE"]).resolve())
    measured = [
        programs.api(api_port),
        *(programs.worker(worker) for worker in workers),
        programs.sender(environ.get("HEADRACE_API_PUBLIC_URL") or f"http://{LOOPBACK}:{api_port}"),
        programs.clerk(),
        programs.scheduler(),
        *([programs.scaler(state.root)] if local else []),
        *(program for pool in local for program in programs.machines(pool)),
    ]
    services = [
        *(_measured(program, state) for program in measured),
        # Flower has metrics of its own, which are none of ours.
        programs.flower(flower_port, flower_login),
    ]
    return Plan(
        env=env,
        environ={**environ, **env, **_for_processes(state)},
        workers=workers,
        programs=[*servers, *services],
        postgres=postgres,
        opened=opened,
    )


def _local_pools(environ: Mapping[str, str]) -> list[Pool]:
    """The pools of `HEADRACE_POOLS_FILE`. Machines of a cloud are none of this stack's."""
    path = environ.get("HEADRACE_POOLS_FILE")
    if not path:
        return []
    declared = list(pools.read(Path(path)))
    elsewhere = [pool.name for pool in declared if pool.executor != "local"]
    if elsewhere:
        names = ", ".join(elsewhere)
        raise StackError(f"HEADRACE_POOLS_FILE: `up` runs pools of executor local only, not {names}")
    if sum(pool.max for pool in declared) > _MOST_MACHINES:
        raise StackError(f"HEADRACE_POOLS_FILE: this machine runs {_MOST_MACHINES} workers at most")
    return declared


def _measured(program: Program, state: StateDir) -> Program:
    """The program, keeping its metrics with those of the other processes of this machine."""
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(state.metrics)}
    return replace(program, environment={**program.environment, **shared})


def _for_processes(state: StateDir) -> dict[str, str]:
    return {
        "PYTHONUNBUFFERED": "1",
        **leftovers.mark(state.root),
    }


def _is_embedded(url: str, password: str) -> bool:
    """Whether a server of ours is meant: none is named, or the one that has our own password.

    So an `up` in a shell that has read `DIR/env` doesn't take the stack's own server, which is
    down, for one of the user's.
    """
    return not url or urlsplit(url).password == password


def _storage_url(state: StateDir, told: Mapping[str, str], last: Mapping[str, str]) -> str:
    """The user's storage, else our own folder: the one that is there now, should the state dir have moved."""
    url, before = told.get("HEADRACE_STORAGE_URL"), last.get("HEADRACE_STATE_DIR")
    if url and not (before and url == StateDir(Path(before)).storage.as_uri()):
        return url
    return state.storage.as_uri()


def _port(url: str | None) -> int | None:
    return urlsplit(url).port if url else None
