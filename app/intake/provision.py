"""First things first: a tenant, and a key to begin with."""

from app.db import tenants
from app.db.engine import make_engine
from app.domain.scopes import SCOPES
from app.intake.keys import issue_key, verify
from app.settings import Settings

ACTOR = "headracectl up"


def ensure_tenant_and_key(settings: Settings, *, tenant: str = "default", key: str | None = None) -> str:
    """A key with every scope of `tenant`, which is made if need be. `key` is kept if it still works."""
    engine = make_engine(settings.database_url, application_name="headrace provision")
    try:
        tenant_id = tenants.ensure(engine, tenant, actor=ACTOR)
        pepper = settings.secret_key.get_secret_value()
        row = verify(engine, pepper, key) if key else None
        if key and row and row.tenant_id == tenant_id and set(row.scopes) == set(SCOPES):
            return key
        return issue_key(engine, pepper, tenant_id, name="headracectl up", actor=ACTOR)
    finally:
        engine.dispose()
