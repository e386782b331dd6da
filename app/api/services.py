"""What the views work with. `app/factory.py` makes it; a view asks `services()`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from app.broker.ring import Ringer
from app.broker.wakeups import Wakeups
from app.db.engine import Engine
from app.domain.egress import EgressPolicy
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

_NAME = "headrace"


@dataclass(frozen=True)
class Services:
    """One process's parts, put together once."""

    settings: Settings
    engine: Engine
    ringer: Ringer
    wakeups: Wakeups
    catalogue: Catalogue
    authenticator: Authenticator
    intake: Intake
    reader: JobReader
    embedder: Embedder
    keyring: Keyring
    egress: EgressPolicy
    storage: Storage
    rates: RateLimiter
    quotas: Quotas
    pressure: Pressure
    forecasts: Forecasts
    readiness: Readiness
    clock: Callable[[], float]


def install(app: Flask, services: Services) -> None:
    """Give the application its parts."""
    app.extensions[_NAME] = services


def services() -> Services:
    """The parts of the application that serves this request."""
    return cast(Services, current_app.extensions[_NAME])
