"""`/v1/files`, as OpenAI's: send, look, list, read, remove."""

from collections.abc import Callable
from urllib.parse import quote

from flask import Blueprint, Response, request

from app.api import parameters as p
from app.api import ranges
from app.api.answers import file_limits, json_answer, list_answer
from app.api.multipart import OVERHEAD, read_multipart
from app.api.operation import Answer, Operation, route
from app.api.problems import problem
from app.api.schemas import File, FileDeleted, FileList
from app.api.services import services
from app.intake import file_view, files
from app.intake.authenticate import Principal
from app.intake.file_request import FileForm, read_form, read_listing
from app.intake.idempotency import read_key

_CONTENT = "application/octet-stream"
_CONTENT_HEADERS = ("Accept-Ranges", "Cache-Control", "Content-Disposition", "ETag")

blueprint = Blueprint("files", __name__)


@route(
    blueprint,
    Operation(
        "createFile",
        "POST",
        "/v1/files",
        "files",
        "Upload a file",
        "It is stored as it arrives, and there is no file before all of it is. Repeat an upload that broke"
        " with the same `Idempotency-Key`: there will be one file.",
        scope="files:write",
        parameters=(p.IDEMPOTENCY_KEY,),
        body=FileForm,
        body_media="multipart/form-data",
        answers={200: Answer("The file.", File, headers=("Idempotent-Replayed",))},
        errors=(
            "bad_request",
            "invalid_multipart",
            "invalid_idempotency_key",
            "file_gone",
            "body_too_large",
            "file_too_large",
            "file_quota_exceeded",
            "unsupported_media_type",
            "invalid_request",
            "idempotency_key_reused",
            "storage_not_configured",
        ),
    ),
)
def create(principal: Principal) -> Response:
    """Store a file."""
    parts = services()
    limits = file_limits(principal)
    key = read_key(request.headers.get("Idempotency-Key"))
    if (request.content_length or 0) > limits.max_bytes + OVERHEAD:
        raise files.too_large(limits)

    def read(write: Callable[[bytes], None]) -> FileForm:
        return read_form(read_multipart("file", write, limits.max_bytes))

    received = files.receive(parts.engine, parts.storage, principal, limits, read, key)
    headers = {"Idempotent-Replayed": "true"} if received.replayed else {}
    return json_answer(file_view.file(received.row), headers=headers)


@route(
    blueprint,
    Operation(
        "listFiles",
        "GET",
        "/v1/files",
        "files",
        "List files",
        "Newest first, unless `order` says otherwise.",
        scope="files:read",
        parameters=p.LIST_FILES,
        answers={200: Answer("A page.", FileList)},
        errors=("invalid_request", "invalid_cursor"),
    ),
)
def list_all(principal: Principal) -> Response:
    """A page of the tenant's files."""
    asked = read_listing(request.args.items(multi=True))
    rows = files.list_page(services().engine, principal, asked)
    shown = [file_view.file(row) for row in rows[: asked.limit]]
    return list_answer(shown, has_more=len(rows) > asked.limit)


@route(
    blueprint,
    Operation(
        "getFile",
        "GET",
        "/v1/files/<file_id>",
        "files",
        "Get a file",
        "What is known of it, without its content.",
        scope="files:read",
        parameters=(p.FILE_ID,),
        answers={200: Answer("The file.", File)},
        errors=("file_not_found",),
    ),
)
def get(principal: Principal, file_id: str) -> Response:
    """One file."""
    row = files.fetch(services().engine, principal.tenant_id, files.parse_file_id(file_id))
    return json_answer(file_view.file(row))


@route(
    blueprint,
    Operation(
        "deleteFile",
        "DELETE",
        "/v1/files/<file_id>",
        "files",
        "Delete a file",
        "For good, with its content.",
        scope="files:write",
        parameters=(p.FILE_ID,),
        answers={200: Answer("It is gone.", FileDeleted)},
        errors=("file_not_found",),
    ),
)
def delete(principal: Principal, file_id: str) -> Response:
    """Remove it."""
    parts = services()
    key = files.parse_file_id(file_id)
    files.delete(parts.engine, parts.storage, principal, key)
    return json_answer(file_view.deleted_file(key))


@route(
    blueprint,
    Operation(
        "getFileContent",
        "GET",
        "/v1/files/<file_id>/content",
        "files",
        "Read a file",
        "Its bytes as they were sent, or one range of them. `ETag` is the content's SHA-256.",
        scope="files:read",
        parameters=(p.FILE_ID, p.RANGE, p.IF_RANGE, p.IF_NONE_MATCH),
        answers={
            200: Answer("All of it.", media=_CONTENT, headers=_CONTENT_HEADERS),
            206: Answer("The range.", media=_CONTENT, headers=(*_CONTENT_HEADERS, "Content-Range")),
            304: Answer("What you have is what there is.", media="", headers=("Cache-Control", "ETag")),
        },
        errors=("file_not_found", "range_not_satisfiable", "storage_not_configured"),
    ),
)
def content(principal: Principal, file_id: str) -> Response:
    """Its bytes."""
    parts = services()
    row = files.fetch(parts.engine, principal.tenant_id, files.parse_file_id(file_id))
    etag = row.sha256.hex()
    # Content never changes, but who may see it does: others must not keep it, and the owner asks each time.
    known = {"ETag": f'"{etag}"', "Cache-Control": "private, no-cache"}
    if request.if_none_match.contains_weak(etag):
        return Response(status=304, headers=known)
    size: int = row.bytes
    asked = None if request.method == "HEAD" else request.headers.get("Range")
    # Written half-way through another content, a range of this one would be nonsense.
    if request.headers.get("If-Range", known["ETag"]) != known["ETag"]:
        asked = None
    try:
        part = ranges.wanted(asked, size)
    except ranges.Unsatisfiable:
        there = {"Content-Range": f"bytes */{size}"}
        return problem(416, "range_not_satisfiable", f"the file has {size} bytes", headers=there)
    start, end = part or (0, size)
    headers = {
        **known,
        "Accept-Ranges": "bytes",
        "Content-Disposition": _attachment(row.filename),
        "Content-Length": str(end - start),
        **({"Content-Range": f"bytes {start}-{end - 1}/{size}"} if part else {}),
    }
    chunks = () if request.method == "HEAD" else files.content(parts.storage, row, start, end)
    return Response(chunks, 206 if part else 200, headers, mimetype=_CONTENT)


def _attachment(filename: str) -> str:
    """For browsers: to be saved under its name, whatever that is, and never shown."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_. ") else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"
