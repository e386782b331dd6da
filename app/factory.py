"""The composition root of the HTTP edge: the only place where its parts are made and meet."""

import time
from collections.abc import Callable

from flask import Flask

from app.api import (
    batches,
    docs,
    edge,
    embeddings,
    files,
    health,
    job_control,
    job_events,
    jobs,
    models,
    problems,
    tenants,
    webhook_deliveries,
    webhook_secrets,
    webhooks,
    workers,
)
from app.api import services as parts
from app.broker.ring import Ringer
from app.broker.wakeups import Wakeups
from app.db.engine import Engine, make_engine
from app.domain.egress import EgressPolicy
from app.domain.media import MediaPolicy
from app.domain.sealing import Keyring
from app.intake.accept import Intake
from app.intake.authenticate import Authenticator
from app.intake.catalogue import Catalogue
from app.intake.control import JobReader
from app.intake.embeddings import Embedder
from app.intake.forecast import Forecasts
from app.intake.pressure import Pressure
from app.intake.quotas import Quotas
from app.intake.rates import RateLimiter
from app.intake.readiness import Readiness
from app.settings import Settings
from app.storage import Storage

BLUEPRINTS = (
    jobs.blueprint,
    job_control.blueprint,
    job_events.blueprint,
    files.blueprint,
    batches.blueprint,
    webhooks.blueprint,
    webhook_secrets.blueprint,
    webhook_deliveries.blueprint,
    embeddings.blueprint,
    models.blueprint,
    workers.blueprint,
    tenants.blueprint,
    health.blueprint,
    docs.blueprint,
)


def create_app(
    settings: Settings,
    *,
    engine: Engine | None = None,
    ringer: Ringer | None = None,
    wakeups: Wakeups | None = None,
    storage: Storage | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Flask:
    """The WSGI application. Connects to nothing yet, so it may be made before the services are there.

    Tests pass their own parts; `clock` is a monotonic one, for caches and waits.
    """
    pepper, ttl_s = settings.secret_key.get_secret_value(), settings.api.cache_ttl_s
    engine = engine or make_engine(
        settings.api.database_url or settings.database_url,
        pool_size=settings.database_pool,
        lookups_only=True,
        application_name="headrace api",
        scoped=settings.api.database_url is not None,
    )
    ringer = ringer or Ringer(settings.redis_url)
    wakeups = wakeups or Wakeups(settings.redis_url, max_waiters=settings.api.max_waiters)
    egress = EgressPolicy.of(settings)
    catalogue = Catalogue(engine, ttl_s, clock, MediaPolicy(egress, settings.media.urls))
    intake = Intake(engine, catalogue, ringer)
    services = parts.Services(
        settings=settings,
        engine=engine,
        ringer=ringer,
        wakeups=wakeups,
        catalogue=catalogue,
        authenticator=Authenticator(engine, pepper, ttl_s, clock),
        intake=intake,
        reader=JobReader(engine),
        embedder=Embedder(engine, catalogue, intake, ringer, wakeups, settings.api.max_wait_s, clock),
        keyring=Keyring.of(settings),
        egress=egress,
        storage=storage or Storage.of(settings),
        rates=RateLimiter(settings.redis_url, settings.limits),
        quotas=Quotas(engine, settings.limits, clock),
        pressure=Pressure(engine, settings.limits.wait_s, clock),
        forecasts=Forecasts(engine, clock),
        readiness=Readiness(_probe_engine(settings), ringer, clock),
        clock=clock,
    )
    app = Flask("headrace", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.api.max_body_bytes
    app.url_map.merge_slashes = False
    parts.install(app, services)
    edge.install(app)
    problems.install(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    return app


def _probe_engine(settings: Settings) -> Engine:
    # A connection of its own: a busy pool must not look like a database that is gone.
    return make_engine(
        settings.api.database_url or settings.database_url,
        pool_size=1,
        statement_timeout_s=2.0,
        application_name="headrace probe",
    )
