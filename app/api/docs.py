"""`/openapi.json` and `/docs`: the document, and Swagger UI from an installed package, no CDN.

The page may load scripts and styles of this server only; its own two lines of script are a file.
"""

import importlib.util
from functools import cache
from pathlib import Path

import orjson
from flask import Blueprint, Response, abort, current_app, send_from_directory

from app.api import catalogue_of_errors
from app.api.openapi import document

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES = {
    "swagger-ui.css": "css/swagger-ui.css",
    "swagger-ui-bundle.js": "js/swagger-ui-bundle.js",
    "swagger.svg": "images/swagger.svg",
}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Headrace API</title>
<link rel="icon" href="/docs/swagger.svg">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<body>
<div id="swagger-ui">As <a href="/openapi.json">OpenAPI 3.1</a>; <a href="/docs/errors">errors</a>.</div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = """window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
_HOUR = {"Cache-Control": "max-age=3600"}

blueprint = Blueprint("docs", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """The OpenAPI 3.1 document, made once from the registered operations."""
    return Response(_document_text(), mimetype="application/json", headers={"Cache-Control": "max-age=60"})


@blueprint.get("/docs")
def docs() -> Response:
    """Swagger UI."""
    return _page(_PAGE)


@blueprint.get("/docs/errors")
def errors() -> Response:
    """Every error code; problem types point here."""
    return _page(catalogue_of_errors.page())


@blueprint.get("/docs/start.js")
def start() -> Response:
    """What starts Swagger UI."""
    return Response(_START, mimetype="text/javascript", headers=_HOUR)


@blueprint.get("/docs/<name>")
def asset(name: str) -> Response:
    """One of Swagger UI's files."""
    if name not in _FILES:
        abort(404)
    answer = send_from_directory(_assets(), _FILES[name], max_age=3600)
    answer.headers["Cache-Control"] = _HOUR["Cache-Control"]
    return answer


def _page(text: str) -> Response:
    return Response(text, mimetype="text/html", headers={"Content-Security-Policy": _CSP})


def _document_text() -> bytes:
    kept: bytes | None = current_app.extensions.get("headrace.openapi")
    if kept is None:
        kept = current_app.extensions["headrace.openapi"] = orjson.dumps(document(current_app))
    return kept


@cache
def _assets() -> Path:
    # Found without importing it: its code is a plugin for something that we don't use.
    spec = importlib.util.find_spec("flask_openapi3_swagger")
    if spec is None or not spec.submodule_search_locations:
        abort(404)
    return Path(spec.submodule_search_locations[0]) / "templates" / "swagger"
