"""Bugs, reported to Sentry or what speaks its protocol: each error that is logged with an exception.

Off unless `HEADRACE_SENTRY_DSN` is set. A report has types, messages and places in our code, as the log has:
no local variables, no request, no breadcrumbs, and no message of an exception that quotes values.
"""

from typing import Any

from app import __version__
from app.errors import SettingsError
from app.settings import Settings

QUOTES_VALUES = ("psycopg", "sqlalchemy", "pydantic", "jsonschema")
"""Modules whose exceptions may hold what a client sent."""
LONGEST = 300
_FLUSH_S = 2.0

_sdk: Any = None


def configure(settings: Settings) -> None:
    """Report this process's bugs, if that is asked for. In a process that was forked, once more.

    Raises `SettingsError` if the SDK is not installed.
    """
    global _sdk
    dsn = settings.sentry.dsn
    if dsn is None:
        return
    try:
        import sentry_sdk
    except ModuleNotFoundError:
        problem = "HEADRACE_SENTRY_DSN: sentry-sdk is not installed: pip install 'headrace[sentry]'"
        raise SettingsError([problem]) from None
    sentry_sdk.init(
        dsn=dsn.get_secret_value(),
        environment=settings.sentry.environment,
        release=f"headrace@{__version__}",
        default_integrations=False,
        # Else it would patch aiohttp, and send headers of its own to webhook receivers.
        auto_enabling_integrations=False,
        trace_propagation_targets=[],
        include_local_variables=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        include_source_context=False,
        before_send=_without_values,
    )
    _sdk = sentry_sdk


def report(error: BaseException, facts: dict[str, Any]) -> None:
    """Send this one soon, beside. `facts` are what the log says of it."""
    if _sdk is None:
        return
    with _sdk.new_scope() as scope:
        for name in ("event", "request_id", "tenant", "job"):
            if name in facts:
                scope.set_tag(name, facts[name])
        scope.capture_exception(error)


def shutdown() -> None:
    """Send what is left, and stop."""
    global _sdk
    if _sdk is not None:
        _sdk.get_client().close(timeout=_FLUSH_S)
        _sdk.get_global_scope().set_client(None)
        _sdk = None


def _without_values(event: Any, _hint: Any) -> Any:
    for one in event.get("exception", {}).get("values", []):
        if (one.get("module") or "").startswith(QUOTES_VALUES):
            one["value"] = ""
        one["value"] = (one.get("value") or "")[:LONGEST]
    return event
