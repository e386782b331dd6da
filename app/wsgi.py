"""What gunicorn serves: `gunicorn -c python:app.gunicorn_conf app.wsgi:application`."""

import sys

from flask import Flask

from app.errors import SettingsError
from app.factory import create_app
from app.observability import logs, tracing
from app.settings import load

EXIT_SETTINGS = 3
"""Gunicorn's own code for a worker that can't boot: it stops instead of trying for ever."""


def _application() -> Flask:
    try:
        settings = load()
        logs.configure(settings)
        tracing.configure(settings, "api")
        return create_app(settings)
    except SettingsError as error:
        for problem in error.problems:
            print(f"headrace: {problem}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_SETTINGS)


application = _application()
