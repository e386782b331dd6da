"""What gunicorn serves: `gunicorn -c python:app.gunicorn_conf app.wsgi:application`."""

import sys

from app.errors import SettingsError
from app.factory import create_app
from app.observability import logs
from app.settings import Settings, load

EXIT_SETTINGS = 3
"""Gunicorn's own code for a worker that can't boot: it stops instead of trying for ever."""


def _settings() -> Settings:
    try:
        return load()
    except SettingsError as error:
        for problem in error.problems:
            print(f"headrace: {problem}", file=sys.stderr)  # noqa: T201
        sys.exit(EXIT_SETTINGS)


_loaded = _settings()
logs.configure(_loaded)
application = create_app(_loaded)
