"""Files: what is sent is what is read, whole or not at all, and nothing is left behind."""

import hashlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema_rs import Draft202012Validator

from app.api import files as views
from app.db import files as sql
from app.errors import Unavailable
from app.factory import create_app
from app.intake import files as intake
from app.intake import upload
from app.storage import Storage
from app.storage.local import LocalStorage
from tests.integration.api.client import Api, uuid_of
from tests.integration.api.conftest import open_api
from tests.support.servers import PostgresServer
from workers.maintenance.prune import PruneFiles

LINES = b'{"custom_id": "a"}\n{"custom_id": "b"}\n'
EDGE = "edge-of-the-form"
KEY = {"Idempotency-Key": "upload-1"}


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{EDGE}--\r\n".encode()
FILE = part("file", LINES, "in.jsonl")
PURPOSE = part("purpose", b"batch")


def post(api: Api, body: bytes, **headers: str) -> Any:
    sent = {"Content-Type": f"multipart/form-data; boundary={EDGE}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    return api.post("/v1/files", data=body, headers=sent)


def send(
    api: Api,
    content: bytes = LINES,
    filename: str = "in.jsonl",
    *,
    headers: dict[str, str] | None = None,
    **fields: str,
) -> Any:
    """Upload as any client would."""
    data = {"purpose": "batch", **fields, "file": (io.BytesIO(content), filename)}
    return api.post("/v1/files", data=data, headers=headers or {})


def uploaded(api: Api, content: bytes = LINES, **options: Any) -> dict[str, Any]:
    answer = send(api, content, **options)
    assert answer.status_code == 200, answer.text
    file: dict[str, Any] = answer.json
    return file


def storage_of(api: Api) -> LocalStorage:
    storage = api.app.extensions["headrace"].storage
    assert isinstance(storage, LocalStorage)
    return storage


def stored(api: Api) -> list[Path]:
    """Every file in the storage's folder, unfinished ones too."""
    return [path for path in storage_of(api)._root.rglob("*") if path.is_file()]


def strays(api: Api) -> int:
    count: int = api.queue.execute("SELECT count(*) FROM stray_objects")[0][0]
    return count


def rows(api: Api) -> int:
    count: int = api.queue.execute("SELECT count(*) FROM files")[0][0]
    return count


def nothing_is_left(api: Api) -> bool:
    return (rows(api), strays(api), stored(api)) == (0, 0, [])


def other(api: Api, storage: Storage) -> Api:
    """The same with another storage."""
    return Api(create_app(api.settings, storage=storage), api.queue, api.settings, api.key)


@pytest.fixture(scope="module")
def calm(
    postgres_server: PostgresServer,
    template_database: str,
    valkey_server: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    """One application for all tests that leave nothing."""
    storage = tmp_path_factory.mktemp("calm")
    with postgres_server.database(template_database) as url, open_api(url, valkey_server, storage) as api:
        yield api


@pytest.fixture(scope="module")
def digits(
    postgres_server: PostgresServer,
    template_database: str,
    valkey_server: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Api, str]]:
    """The path of the content 0123456789, and who may read it."""
    storage = tmp_path_factory.mktemp("digits")
    with postgres_server.database(template_database) as url, open_api(url, valkey_server, storage) as api:
        yield api, f"/v1/files/{uploaded(api, b'0123456789')['id']}/content"


def test_what_is_sent_is_what_is_read(api: Api) -> None:
    file = uploaded(api)
    assert file == {
        "id": file["id"],
        "object": "file",
        "bytes": len(LINES),
        "created_at": file["created_at"],
        "expires_at": None,
        "filename": "in.jsonl",
        "purpose": "batch",
        "status": "processed",
        "status_details": None,
        "sha256": hashlib.sha256(LINES).hexdigest(),
    }
    document = api.http.get("/openapi.json").json
    schema = {"$ref": "#/components/schemas/File", "components": document["components"]}
    assert Draft202012Validator(schema).is_valid(file)
    assert api.get(f"/v1/files/{file['id']}").json == file
    assert api.get("/v1/files").json["data"] == [file]
    answer = api.get(f"/v1/files/{file['id']}/content")
    assert (answer.status_code, answer.data) == (200, LINES)
    assert answer.headers["Content-Length"] == str(len(LINES))
    assert answer.mimetype == "application/octet-stream"
    assert strays(api) == 0
    assert [path.read_bytes() for path in stored(api)] == [LINES]


def test_a_deleted_file_is_gone_with_its_content(api: Api) -> None:
    path = f"/v1/files/{uploaded(api)['id']}"
    answer = api.request("DELETE", path)
    assert (answer.status_code, answer.json) == (
        200,
        {"id": path.rpartition("/")[2], "object": "file", "deleted": True},
    )
    assert nothing_is_left(api)
    for method, where in (("GET", path), ("GET", f"{path}/content"), ("DELETE", path)):
        assert api.request(method, where).json["code"] == "file_not_found"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"no newline at the end",
        b"\r\n--" + EDGE.encode()[:-1] + b"\r\n",
        b"--" + EDGE.encode() + b"x\r\n--",
        bytes(range(256)) * 1000,
        b"\r\n--" * 40_000,
    ],
    ids=["empty", "line end", "text", "nearly the edge", "edge inside a line", "binary", "teasing"],
)
def test_content_is_kept_to_the_byte(api: Api, content: bytes) -> None:
    file = post(api, PURPOSE + part("file", content, "in.bin") + END).json
    assert file["sha256"] == hashlib.sha256(content).hexdigest()
    assert api.get(f"/v1/files/{file['id']}/content").data == content


@pytest.mark.parametrize("pieces", [[FILE, PURPOSE], [PURPOSE, FILE]], ids=["file first", "file last"])
def test_fields_come_in_any_order(api: Api, pieces: list[bytes]) -> None:
    assert post(api, b"".join(pieces) + END).json["purpose"] == "batch"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (FILE + END, "/purpose", "required"),
        (PURPOSE + END, "/file", "required"),
        (PURPOSE + part("file", LINES) + END, "/file", "wrong_type"),
        (FILE + part("purpose", b"batch", "x.txt") + END, "/purpose", "wrong_type"),
        (FILE + PURPOSE + PURPOSE + END, "/purpose", "repeated"),
        (FILE + FILE + PURPOSE + END, "/file", "repeated"),
        (FILE + part("purpose", b"batch_output") + END, "/purpose", "not_allowed"),
        (FILE + part("purpose", b"fine-tune") + END, "/purpose", "not_allowed"),
        (FILE + part("purpose", b"x" * 5000) + END, "/purpose", "too_long"),
        (FILE + PURPOSE + part("colour", b"red") + END, "/colour", "unknown_field"),
        (PURPOSE + part("file", LINES, "") + END, "/file", "bad_format"),
        (PURPOSE + part("file", LINES, "a/") + END, "/file", "bad_format"),
        (PURPOSE + part("file", LINES, "a\tb") + END, "/file", "bad_format"),
        (PURPOSE + part("file", LINES, "x" * 256) + END, "/file", "bad_format"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_left(calm: Api, body: bytes, pointer: str, code: str) -> None:
    answer = post(calm, body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request"), answer.text
    assert [(error["pointer"], error["code"]) for error in answer.json["errors"]] == [(pointer, code)]
    assert answer.json["error"]["param"] == pointer.removeprefix("/")
    assert nothing_is_left(calm)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"nonsense", 400, "invalid_multipart"),
        (PURPOSE + FILE, 400, "invalid_multipart"),
        (PURPOSE + FILE[:-8], 400, "invalid_multipart"),
        (f"--{EDGE}\r\nContent-Type: text/plain\r\n\r\nx\r\n".encode() + END, 400, "invalid_multipart"),
        (FILE + part("purpose", b"\xff") + END, 400, "invalid_multipart"),
        (FILE.replace(b"in.jsonl", b"\xff") + PURPOSE + END, 400, "invalid_multipart"),
        (b"".join(part(f"f{n}", b"") for n in range(20)) + END, 413, "body_too_large"),
        (f"--{EDGE}\r\nX: ".encode() + b"x" * 200_000, 413, "body_too_large"),
        (b"x" * 200_000, 413, "body_too_large"),
        (PURPOSE + FILE + END + b"x" * 200_000, 413, "body_too_large"),
    ],
)
def test_what_is_no_form_is_refused_and_nothing_is_left(
    calm: Api, body: bytes, status: int, code: str
) -> None:
    answer = post(calm, body)
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert nothing_is_left(calm)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": "application/json"}, 415),
        ({"Content_Type": "text/plain"}, 415),
        ({"Content_Encoding": "gzip"}, 415),
        ({"Content_Type": "multipart/form-data"}, 400),
        ({"Content_Type": f"multipart/form-data; boundary={'x' * 201}"}, 400),
        ({"Idempotency_Key": "x" * 256}, 400),
    ],
)
def test_wrong_headers_are_refused(calm: Api, headers: dict[str, str], status: int) -> None:
    assert post(calm, PURPOSE + FILE + END, **headers).status_code == status
    assert nothing_is_left(calm)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("C:\\jobs\\in.jsonl", "in.jsonl"),
        ("../../etc/passwd", "passwd"),
        ("Größe 中.jsonl", "Größe 中.jsonl"),
        ('a"b.jsonl', 'a"b.jsonl'),
    ],
)
def test_names_are_names_only(api: Api, sent: str, kept: str) -> None:
    body = PURPOSE + part("file", LINES, sent.replace("\\", "\\\\").replace('"', '\\"')) + END
    assert post(api, body).json["filename"] == kept


def test_a_name_is_offered_to_browsers_safely(api: Api) -> None:
    file = uploaded(api, filename='Größe "x";\\.jsonl')
    headers = api.get(f"/v1/files/{file['id']}/content").headers
    name = file["filename"].replace("ö", "%C3%B6").replace("ß", "%C3%9F")
    name = name.replace(" ", "%20").replace('"', "%22").replace(";", "%3B")
    assert headers["Content-Disposition"].endswith(f"filename*=UTF-8''{name}")
    assert headers["Content-Disposition"].isascii()
    assert views._attachment('a"b\\c;d.txt') == (
        "attachment; filename=\"a_b_c_d.txt\"; filename*=UTF-8''a%22b%5Cc%3Bd.txt"
    )


# Limits


def test_a_file_over_the_limit_is_refused_by_length_and_while_it_comes(api: Api) -> None:
    limit = api.settings.files.max_bytes
    assert send(api, b"x" * limit).status_code == 200
    for content in (b"x" * (limit + 1), b"x" * (limit * 2)):
        answer = send(api, content)
        assert (answer.status_code, answer.json["code"]) == (413, "file_too_large")
    assert (rows(api), strays(api), len(stored(api))) == (1, 0, 1)


def test_a_tenant_has_its_quota(api: Api, stranger: Api) -> None:
    for _ in range(3):
        uploaded(api, b"x" * 300_000)
    answer = send(api, b"x" * 200_000)
    assert (answer.status_code, answer.json["code"]) == (413, "file_quota_exceeded")
    uploaded(stranger, b"x" * 300_000)
    first = api.get("/v1/files?order=asc").json["data"][0]
    api.request("DELETE", f"/v1/files/{first['id']}")
    uploaded(api, b"x" * 200_000)
    assert (rows(api), strays(api), len(stored(api))) == (4, 0, 4)


def test_small_files_take_room_too(api: Api) -> None:
    api.queue.execute(
        "INSERT INTO files (id, tenant_id, purpose, filename, bytes, sha256)"
        " SELECT gen_random_uuid(), :tenant, 'batch', 'x', 1, decode(repeat('00', 32), 'hex')"
        "   FROM generate_series(1, 1000000 / 4096)",
        tenant=api.queue.tenant_id,
    )
    assert send(api, b"x").json["code"] == "file_quota_exceeded"


def test_uploads_that_race_stay_within_the_quota(api: Api) -> None:
    """Each fits when it begins; together they don't."""
    barrier = threading.Barrier(8)

    def race(_: int) -> int:
        alone = Api(api.app, api.queue, api.settings, api.key)
        barrier.wait(30)
        status: int = send(alone, b"x" * 240_000).status_code
        return status

    with ThreadPoolExecutor(8) as clients:
        statuses = sorted(clients.map(race, range(8)))
    assert statuses == [200] * 4 + [413] * 4
    assert (rows(api), strays(api), len(stored(api))) == (4, 0, 4)


# Once


def test_the_same_again_is_the_same_file(api: Api) -> None:
    first = send(api, headers=KEY)
    again = send(api, headers=KEY)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.json == first.json
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert (rows(api), strays(api), len(stored(api))) == (1, 0, 1)


def test_the_same_again_needs_no_room(api: Api) -> None:
    first = uploaded(api, b"x" * 300_000, headers=KEY)
    for _ in range(2):
        uploaded(api, b"y" * 300_000)
    assert uploaded(api, b"x" * 300_000, headers=KEY) == first


@pytest.mark.parametrize(
    "change",
    [
        {"content": LINES + b"\n"},
        {"filename": "out.jsonl"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"},
    ],
)
def test_a_key_is_for_one_upload(api: Api, stranger: Api, change: dict[str, Any]) -> None:
    uploaded(api, headers=KEY)
    answer = send(api, headers=KEY, **change)
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")
    assert (rows(api), strays(api), len(stored(api))) == (1, 0, 1)
    uploaded(stranger, headers=KEY, **change)


def test_a_file_that_was_deleted_does_not_come_back(api: Api) -> None:
    file = uploaded(api, headers=KEY)
    api.request("DELETE", f"/v1/files/{file['id']}")
    answer = send(api, headers=KEY)
    assert (answer.status_code, answer.json["code"]) == (409, "file_gone")
    assert nothing_is_left(api)


def test_racing_on_one_key_makes_one_file(api: Api) -> None:
    barrier = threading.Barrier(8)

    def race(_: int) -> str:
        alone = Api(api.app, api.queue, api.settings, api.key)
        barrier.wait(30)
        return str(uploaded(alone, headers=KEY)["id"])

    with ThreadPoolExecutor(8) as clients:
        ids = set(clients.map(race, range(8)))
    assert len(ids) == 1
    assert (rows(api), strays(api), len(stored(api))) == (1, 0, 1)


# Lists, tenants, scopes


def test_lists_are_paged_both_ways(api: Api) -> None:
    ids = [uploaded(api)["id"] for _ in range(5)]
    for order, expected in (("desc", ids[::-1]), ("asc", ids)):
        seen, after = [], ""
        while True:
            page = api.get(f"/v1/files?limit=2&order={order}{after}").json
            seen += [file["id"] for file in page["data"]]
            assert page["last_id"] == seen[-1]
            if not page["has_more"]:
                break
            after = f"&after={page['last_id']}"
        assert seen == expected
    assert [file["id"] for file in api.get("/v1/files").json["data"]] == ids[::-1]
    assert len(api.get("/v1/files?limit=10000&purpose=batch").json["data"]) == 5
    assert api.get("/v1/files?purpose=batch_output").json["data"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "order=up", "purpose=x", "colour=red"])
def test_a_wrong_parameter_is_named(calm: Api, query: str) -> None:
    answer = calm.get(f"/v1/files?{query}")
    assert answer.status_code == 422
    assert answer.json["errors"][0]["pointer"] == f"/query/{query.partition('=')[0]}"


def test_somebody_elses_file_is_no_file(api: Api, stranger: Api) -> None:
    path = f"/v1/files/{uploaded(api)['id']}"
    for method, where in (("GET", path), ("GET", f"{path}/content"), ("DELETE", path)):
        answer = stranger.request(method, where)
        assert (answer.status_code, answer.json["code"]) == (404, "file_not_found")
        unknown = where.replace(path, "/v1/files/file_x")
        assert api.request(method, unknown).json["code"] == "file_not_found"
    assert stranger.get("/v1/files").json["data"] == []
    assert api.get(path).status_code == 200


def test_scopes(api: Api) -> None:
    file = uploaded(api)
    reader, writer = api.with_key("files:read"), api.with_key("files:write")
    path = f"/v1/files/{file['id']}"
    for where in ("/v1/files", path, f"{path}/content"):
        assert reader.get(where).status_code == 200
        assert writer.get(where).status_code == 403
    assert reader.request("DELETE", path).status_code == 403
    assert send(reader).status_code == 403
    assert writer.request("DELETE", path).status_code == 200


# Time


def test_a_file_expires_at_once_and_is_removed_soon(api: Api) -> None:
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file, kept = uploaded(api, **expiry), uploaded(api)
    assert file["expires_at"] == file["created_at"] + 3600
    api.queue.execute("UPDATE files SET expires_at = now() WHERE id = :id", id=uuid_of(file))
    path = f"/v1/files/{file['id']}"
    for method, where in (("GET", path), ("GET", f"{path}/content"), ("DELETE", path)):
        assert api.request(method, where).json["code"] == "file_not_found"
    assert [one["id"] for one in api.get("/v1/files").json["data"]] == [kept["id"]]
    assert len(stored(api)) == 2
    assert PruneFiles(api.queue.engine, storage_of(api)).run_once() == 1
    assert (rows(api), strays(api), len(stored(api))) == (1, 0, 1)
    assert api.get(f"/v1/files/{kept['id']}/content").data == LINES


@pytest.mark.parametrize(
    ("anchor", "seconds", "pointer"),
    [
        ("created_at", "3599", "/expires_after[seconds]"),
        ("created_at", "2592001", "/expires_after[seconds]"),
        ("created_at", "soon", "/expires_after[seconds]"),
        ("created_at", "3600.5", "/expires_after[seconds]"),
        ("now", "3600", "/expires_after[anchor]"),
        ("created_at", None, "/expires_after[seconds]"),
        (None, "3600", "/expires_after[anchor]"),
    ],
)
def test_a_wrong_expiry_is_named(calm: Api, anchor: str | None, seconds: str | None, pointer: str) -> None:
    fields = {"expires_after[anchor]": anchor, "expires_after[seconds]": seconds}
    answer = send(calm, **{name: value for name, value in fields.items() if value is not None})
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert nothing_is_left(calm)


# Parts


@pytest.mark.parametrize(
    ("asked", "got", "content_range"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=9-9", b"9", "bytes 9-9/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-3", b"789", "bytes 7-9/10"),
        ("bytes=-99", b"0123456789", "bytes 0-9/10"),
        ("bytes=5-999999999999", b"56789", "bytes 5-9/10"),
        ("Bytes=1-2", b"12", "bytes 1-2/10"),
    ],
)
def test_a_range(digits: tuple[Api, str], asked: str, got: bytes, content_range: str) -> None:
    api, path = digits
    answer = api.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.data) == (206, got)
    assert answer.headers["Content-Range"] == content_range
    assert answer.headers["Content-Length"] == str(len(got))


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999-"])
def test_a_range_beyond_the_end(digits: tuple[Api, str], asked: str) -> None:
    api, path = digits
    answer = api.get(path, headers={"Range": asked})
    assert (answer.status_code, answer.json["code"]) == (416, "range_not_satisfiable")
    assert answer.headers["Content-Range"] == "bytes */10"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=5-3",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1,3-4",
        "lines=0-1",
        "0-1",
        "bytes=²-",
        f"bytes={'9' * 5000}-",
    ],
)
def test_what_is_no_range_gets_all(digits: tuple[Api, str], asked: str) -> None:
    api, path = digits
    answer = api.get(path, headers={"Range": asked.encode("utf-8").decode("latin-1")})
    assert (answer.status_code, answer.data) == (200, b"0123456789")
    assert "Content-Range" not in answer.headers


def test_an_empty_file_has_no_ranges(api: Api) -> None:
    path = f"/v1/files/{uploaded(api, b'')['id']}/content"
    assert (api.get(path).status_code, api.get(path).data) == (200, b"")
    assert api.get(path, headers={"Range": "bytes=0-"}).status_code == 416


def test_a_content_that_is_known_is_not_sent_again(digits: tuple[Api, str]) -> None:
    api, path = digits
    etag = api.get(path).headers["ETag"]
    assert etag == f'"{hashlib.sha256(b"0123456789").hexdigest()}"'
    for known in (etag, f'"x", {etag}', f"W/{etag}", "*"):
        answer = api.get(path, headers={"If-None-Match": known, "Range": "bytes=0-1"})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag)
    assert api.get(path, headers={"If-None-Match": '"x"'}).status_code == 200


def test_a_range_of_what_is_known(digits: tuple[Api, str]) -> None:
    api, path = digits
    etag = api.get(path).headers["ETag"]
    for known, status in (
        (etag, 206),
        ('"x"', 200),
        (f"W/{etag}", 200),
        ("Sat, 01 Jan 2050 00:00:00 GMT", 200),
    ):
        assert api.get(path, headers={"If-Range": known, "Range": "bytes=0-1"}).status_code == status


def test_a_head_has_the_headers_alone(digits: tuple[Api, str]) -> None:
    api, path = digits
    answer = api.request("HEAD", path, headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (200, b"", "10")


# When something breaks


def test_without_a_storage_there_is_one_clear_error(api: Api) -> None:
    file = uploaded(api)
    bare = other(api, Storage.of(api.settings.model_copy(update={"storage_url": None})))
    for answer in (send(bare), bare.get(f"/v1/files/{file['id']}/content")):
        assert (answer.status_code, answer.json["code"]) == (503, "storage_not_configured")
        assert answer.json["retryable"] is False
    assert bare.get("/v1/files").json["data"] == [file]
    assert strays(api) == 0


def test_with_the_storage_away_nothing_is_made_and_nothing_is_lost(api: Api, tmp_path: Path) -> None:
    file = uploaded(api)
    (tmp_path / "no-folder").write_text("")
    away = other(api, LocalStorage(tmp_path / "no-folder"))
    for answer in (send(away), away.get(f"/v1/files/{file['id']}/content")):
        assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
        assert str(tmp_path) not in answer.text
    assert rows(api) == 1
    assert away.request("DELETE", f"/v1/files/{file['id']}").status_code == 200
    assert (rows(api), len(stored(api))) == (0, 1)
    api.queue.execute("UPDATE stray_objects SET due_at = now()")
    PruneFiles(api.queue.engine, away.app.extensions["headrace"].storage).run_once()
    assert (strays(api), len(stored(api))) == (2, 1)
    PruneFiles(api.queue.engine, storage_of(api)).run_once()
    assert nothing_is_left(api)


def test_killed_before_there_is_a_file_what_was_written_is_removed_later(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is whole, the row is not written: the process vanishes, and cleans nothing up."""

    def vanish(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sql, "insert", vanish)
    monkeypatch.setattr(upload, "remove", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        send(api)
    assert (rows(api), strays(api), len(stored(api))) == (0, 1, 1)
    prune = PruneFiles(api.queue.engine, storage_of(api))
    prune.run_once()
    assert len(stored(api)) == 1, "it might still be on its way"
    api.queue.execute("UPDATE stray_objects SET due_at = now()")
    prune.run_once()
    assert nothing_is_left(api)


def test_killed_while_writing_what_was_begun_is_removed_later(api: Api) -> None:
    key = sql.object_key(api.queue.tenant_id, UUID(int=1))
    sql.announce(api.queue.engine, key)
    unfinished = storage_of(api)._path(f"{key}").with_name(f"{UUID(int=1).hex}.part")
    unfinished.parent.mkdir(parents=True)
    unfinished.write_bytes(b"half")
    api.queue.execute("UPDATE stray_objects SET due_at = now()")
    PruneFiles(api.queue.engine, storage_of(api)).run_once()
    assert nothing_is_left(api)


def test_an_answer_that_was_lost_with_the_commit_leaves_the_file(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres kept the file, and the connection broke before it could say so."""
    insert = sql.insert

    def insert_then_lose(*arguments: Any, **options: Any) -> None:
        insert(*arguments, **options)
        raise Unavailable("the database is not reachable")

    monkeypatch.setattr(sql, "insert", insert_then_lose)
    assert send(api, headers=KEY).status_code == 503
    monkeypatch.undo()
    assert (rows(api), strays(api), len(stored(api))) == (1, 0, 1)
    answer = send(api, headers=KEY)
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert api.get(f"/v1/files/{answer.json['id']}/content").data == LINES


def test_an_upload_that_took_too_long_makes_no_file(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its object may be removed at any moment, so it must not become a file's."""
    announce = sql.announce

    def announce_long_ago(engine: Any, key: str) -> None:
        announce(engine, key)
        api.queue.execute("UPDATE stray_objects SET due_at = now() + interval '1 second'")

    monkeypatch.setattr(sql, "announce", announce_long_ago)
    answer = send(api, headers=KEY)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert nothing_is_left(api)
    monkeypatch.undo()
    assert send(api, headers=KEY).status_code == 200


def test_a_file_whose_object_is_short_breaks_off_and_does_not_lie(api: Api) -> None:
    file = uploaded(api)
    stored(api)[0].write_bytes(LINES[:-1])
    with pytest.raises(Unavailable):
        api.get(f"/v1/files/{file['id']}/content", buffered=True)


def test_what_this_server_makes_is_stored_whatever_the_quota(api: Api) -> None:
    row = intake.store(
        api.queue.engine,
        storage_of(api),
        api.queue.tenant_id,
        "batch_output",
        "out.jsonl",
        (b"x" * 100_000 for _ in range(15)),
        batch_id=UUID(int=7),
    )
    assert (row.bytes, row.purpose, row.batch_id) == (1_500_000, "batch_output", UUID(int=7))
    assert sum(map(len, intake.content(storage_of(api), row))) == 1_500_000
    assert sql.object_key(row.tenant_id, row.id).rpartition("/")[2] == stored(api)[0].name
    assert send(api).json["code"] == "file_quota_exceeded"
    api.request("DELETE", f"/v1/files/file_{row.id.hex}")
    assert nothing_is_left(api)
