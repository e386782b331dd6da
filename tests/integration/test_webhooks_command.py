"""`headracectl webhooks`: what operators see of endpoints, and changing the key that seals secrets."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.db import endpoints, tenants
from app.domain.ids import format_id, new_uuid
from app.domain.sealing import Keyring
from app.settings import load
from tests.support.jobs import Queue

OLD, NEW = (f"{name}:{base64.b64encode(name.encode() * 32).decode()}" for name in "on")

Headracectl = Callable[..., Result]


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    return {
        "HEADRACE_DATABASE_URL": database_url,
        "HEADRACE_REDIS_URL": "redis://nowhere",
        "HEADRACE_SECRET_KEY": "s" * 32,
        "COLUMNS": "200",
    }


@pytest.fixture
def headracectl(environment: dict[str, str], tmp_path: Path) -> Headracectl:
    """Runs a command in this process, with these encryption keys."""

    def run(*arguments: str, encryption_keys: str = "") -> Result:
        settings = {**environment, "HEADRACE_ENCRYPTION_KEYS": encryption_keys}
        environ = {**settings, "HEADRACE_STATE_DIR": str(tmp_path)}
        return CliRunner().invoke(main, ["webhooks", *arguments], env=environ)

    return run


def keyring(environment: dict[str, str], encryption_keys: str = "") -> Keyring:
    server = {name: value for name, value in environment.items() if name.startswith("HEADRACE_")}
    return Keyring.of(load({**server, "HEADRACE_ENCRYPTION_KEYS": encryption_keys}))


def register(queue: Queue, ring: Keyring, secret: str, tenant_id: int | None = None) -> Any:
    new_id = new_uuid()
    new = endpoints.NewEndpoint(
        id=new_id,
        tenant_id=tenant_id or queue.tenant_id,
        url="https://example.com/hook",
        events=["job.completed", "job.started"],
        description="",
        secret=ring.seal(secret, endpoints.endpoint_owner(new_id)),
    )
    return endpoints.insert(queue.engine, new, 100)


def sealed(queue: Queue) -> list[str]:
    """Every sealed secret there is."""
    rows = queue.execute("SELECT secret, previous_secret FROM webhook_endpoints")
    rows += queue.execute("SELECT webhook_secret, previous_webhook_secret FROM tenants")
    return [text for row in rows for text in row if text]


def test_endpoints_of_all_tenants_are_listed_without_secrets(
    queue: Queue, environment: dict[str, str], headracectl: Headracectl
) -> None:
    ring = keyring(environment)
    mine = register(queue, ring, "whsec_mine")
    theirs = register(queue, ring, "whsec_theirs", tenants.ensure(queue.engine, "stranger", actor="test"))
    endpoints.update(queue.engine, queue.tenant_id, mine.id, status="disabled")
    listed = headracectl("list", "--json")
    found = {row["id"]: row for row in json.loads(listed.output)}
    assert listed.exit_code == 0
    assert set(found) == {format_id("whk", mine.id), format_id("whk", theirs.id)}
    row = found[format_id("whk", mine.id)]
    assert (row["tenant"], row["status"], row["disabled_reason"]) == ("default", "disabled", "by_request")
    assert row["events"] == ["job.completed", "job.started"]
    assert found[format_id("whk", theirs.id)]["tenant"] == "stranger"
    table = headracectl("list").output
    assert "stranger" in table
    assert "https://example.com/hook" in table
    for output in (listed.output, table):
        assert not [text for text in (*sealed(queue), "whsec_") if text in output]


def test_rekey_seals_every_secret_under_the_first_key(
    queue: Queue, environment: dict[str, str], headracectl: Headracectl
) -> None:
    engine, tenant_id = queue.engine, queue.tenant_id
    derived, old = keyring(environment), keyring(environment, OLD)
    first, second = register(queue, derived, "whsec_first"), register(queue, old, "whsec_second")
    owner = endpoints.endpoint_owner(second.id)
    endpoints.rotate(engine, tenant_id, second.id, old.seal("whsec_third", owner), 60)
    tenant = endpoints.tenant_owner(tenant_id)
    endpoints.default_secret(engine, tenant_id, derived.seal("whsec_default", tenant))
    both = f"{NEW},{OLD}"
    done = headracectl("rekey", encryption_keys=both)
    assert (done.exit_code, done.output) == (0, "sealed 4 of 4 secrets anew; all are under the first key\n")
    assert [text.split(".")[1] for text in sealed(queue)] == ["n"] * 4
    again = headracectl("rekey", "--json", encryption_keys=both)
    assert json.loads(again.output) == {"secrets": 4, "resealed": 0}
    # The old keys are needed no more.
    new = keyring(environment, NEW)
    row = endpoints.get(engine, tenant_id, first.id)
    assert new.open(row.secret, endpoints.endpoint_owner(first.id)) == "whsec_first"
    row = endpoints.get(engine, tenant_id, second.id)
    assert new.open(row.secret, owner) == "whsec_third"
    assert new.open(row.previous_secret, owner) == "whsec_second"
    row = endpoints.default_secret(engine, tenant_id, "")
    assert new.open(row.secret, tenant) == "whsec_default"


def test_what_is_under_the_first_key_already_stays_as_it_is(
    queue: Queue, environment: dict[str, str], headracectl: Headracectl
) -> None:
    register(queue, keyring(environment, NEW), "whsec_new")
    register(queue, keyring(environment, OLD), "whsec_old")
    (kept,) = [text for text in sealed(queue) if text.startswith("1.n.")]
    done = headracectl("rekey", encryption_keys=f"{NEW},{OLD}")
    assert done.output.startswith("sealed 1 of 2 secrets anew")
    assert kept in sealed(queue)


def test_a_secret_that_cannot_be_opened_is_named_and_nothing_is_changed(
    queue: Queue, environment: dict[str, str], headracectl: Headracectl
) -> None:
    register(queue, keyring(environment), "whsec_readable")
    lost = register(queue, keyring(environment, OLD), "whsec_lost")
    before = sealed(queue)
    failed = headracectl("rekey", encryption_keys=NEW)
    assert failed.exit_code == 1
    assert failed.output == (
        f"Error: {format_id('whk', lost.id)}: the secret can't be opened: sealed under the key 'o', which"
        " HEADRACE_ENCRYPTION_KEYS does not have\n"
    )
    assert sealed(queue) == before


def test_a_tenants_secret_that_cannot_be_opened_is_named_by_the_tenant(
    queue: Queue, environment: dict[str, str], headracectl: Headracectl
) -> None:
    moved = keyring(environment).seal("whsec_x", "endpoint:somebody")
    endpoints.default_secret(queue.engine, queue.tenant_id, moved)
    failed = headracectl("rekey", encryption_keys=NEW)
    assert failed.exit_code == 1
    assert failed.output.startswith(f"Error: tenant {queue.tenant_id}: the secret can't be opened: not seal")


def test_with_nothing_to_seal_nothing_is_done(queue: Queue, headracectl: Headracectl) -> None:
    assert headracectl("rekey").output.startswith("sealed 0 of 0 secrets anew")
