"""Files through the real server: slow, broken and large uploads, and OpenAI's own client."""

import hashlib
import http.client
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import requests

from tests.integration.api.client import Api
from tests.integration.api.server import Server, serve
from tests.integration.api.test_api_files import (
    EDGE,
    END,
    FILE,
    KEY,
    LINES,
    PURPOSE,
    nothing_is_left,
    rows,
    storage_of,
    stored,
    strays,
)
from tests.support.waiting import wait_until
from workers.maintenance.prune import PruneFiles

BIG = 150 * 1000 * 1000
HEAD = b'--edge-of-the-form\r\nContent-Disposition: form-data; name="file"; filename="big.jsonl"\r\n\r\n'


@pytest.fixture
def server(api: Api, tmp_path: Path) -> Iterator[Server]:
    """One process, so that nothing can hide in another."""
    with serve(api.settings, tmp_path, HEADRACE_API_PROCESSES="1") as server:
        yield server


@pytest.fixture(scope="module")
def shared(module_api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same for all tests that leave it running."""
    with serve(module_api.settings, tmp_path_factory.mktemp("server"), HEADRACE_API_PROCESSES="1") as server:
        yield server


@pytest.fixture
def emptied(module_api: Api, shared: Server) -> Api:
    """The application of `shared`, without a file."""
    for path in stored(module_api):
        path.unlink()
    module_api.queue.execute("WITH gone AS (DELETE FROM files) DELETE FROM stray_objects")
    assert nothing_is_left(module_api)
    return module_api


def headers(api: Api, **more: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {api.key}",
        "Content-Type": f"multipart/form-data; boundary={EDGE}",
        **more,
    }


def begun(api: Api, server: Server, length: int | None = None) -> http.client.HTTPConnection:
    """An upload whose head and first bytes are sent. Chunked, if it has no length."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/v1/files")
    framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
    for name, value in (*headers(api).items(), framing):
        connection.putheader(name, value)
    connection.endheaders()
    return connection


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def test_openais_client_works_as_it_is(emptied: Api, shared: Server) -> None:
    with openai.OpenAI(base_url=f"{shared.url}/v1", api_key=emptied.key, max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", LINES), purpose="batch")
        assert (file.id[:5], file.object, file.filename) == ("file_", "file", "in.jsonl")
        assert (file.bytes, file.purpose, file.status) == (len(LINES), "batch", "processed")
        assert abs(file.created_at - time.time()) < 60
        kept = client.files.create(
            file=("out.jsonl", LINES),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert kept.expires_at == kept.created_at + 3600
        assert client.files.retrieve(file.id) == file
        assert client.files.content(file.id).read() == LINES
        with client.files.with_streaming_response.content(file.id) as streamed:
            assert b"".join(streamed.iter_bytes()) == LINES
        assert [one.id for one in client.files.list(limit=1)] == [kept.id, file.id]
        assert [one.id for one in client.files.list(order="asc", purpose="batch")] == [file.id, kept.id]
        assert client.files.delete(file.id).deleted is True
        with pytest.raises(openai.NotFoundError) as caught:
            client.files.retrieve(file.id)
        assert (caught.value.code, caught.value.status_code) == ("file_not_found", 404)
        with pytest.raises(openai.UnprocessableEntityError, match="purpose") as refused:
            client.files.create(file=("in.jsonl", LINES), purpose="fine-tune")
        assert refused.value.param == "purpose"


def test_a_slow_upload_holds_up_nobody(emptied: Api, shared: Server) -> None:
    connection = begun(emptied, shared)
    body = PURPOSE + FILE + END
    connection.send(chunk(body[:100]))
    wait_until(lambda: strays(emptied) == 1, 10, "the upload to begin")
    for _ in range(5):
        assert (
            requests.get(f"{shared.url}/v1/files", headers=headers(emptied), timeout=3).json()["data"] == []
        )
    assert requests.post(f"{shared.url}/v1/files", data=body, headers=headers(emptied), timeout=10).ok
    connection.send(chunk(body[100:]) + b"0\r\n\r\n")
    assert connection.getresponse().status == 200
    connection.close()
    assert (rows(emptied), strays(emptied), len(stored(emptied))) == (2, 0, 2)


@pytest.mark.parametrize("length", [None, 5_000_000], ids=["chunked", "with a length"])
def test_a_client_that_goes_away_leaves_nothing(emptied: Api, shared: Server, length: int | None) -> None:
    connection = begun(emptied, shared, length)
    some = PURPOSE + HEAD + b"x" * 2_000_000
    connection.send(some if length else chunk(some))
    wait_until(
        lambda: any(path.stat().st_size >= 1_000_000 for path in stored(emptied)), 10, "some to be stored"
    )
    assert connection.sock is not None
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    wait_until(lambda: nothing_is_left(emptied), 10, "all to be removed")
    assert requests.get(f"{shared.url}/livez", timeout=10).ok


def test_a_server_that_is_killed_leaves_nothing_for_long(emptied: Api, shared: Server) -> None:
    connection = begun(emptied, shared)
    connection.send(chunk(PURPOSE + HEAD + b"x" * 2_000_000))
    wait_until(
        lambda: any(path.stat().st_size >= 1_000_000 for path in stored(emptied)), 10, "some to be stored"
    )
    psutil.Process(shared.process.pid).children()[0].kill()
    connection.close()
    wait_until(lambda: requests.get(f"{shared.url}/livez", timeout=5).ok, 20, "the next process")
    assert (rows(emptied), strays(emptied), len(stored(emptied))) == (0, 1, 1)
    emptied.queue.execute("UPDATE stray_objects SET due_at = now()")
    PruneFiles(emptied.queue.engine, storage_of(emptied)).run_once()
    assert nothing_is_left(emptied)


def test_a_length_over_the_limit_is_refused_unread(api: Api, tmp_path: Path) -> None:
    with serve(
        api.settings, tmp_path, HEADRACE_API_PROCESSES="1", HEADRACE_FILES_MAX_BYTES="300000"
    ) as server:
        connection = begun(api, server, 10**12)
        answer = connection.getresponse()
        assert (answer.status, b"file_too_large" in answer.read()) == (413, True)
        connection.close()
        endless = begun(api, server)
        endless.send(chunk(PURPOSE + HEAD + b"x" * 400_000))
        answer = endless.getresponse()
        assert (answer.status, b"file_too_large" in answer.read()) == (413, True)
        endless.close()
        wait_until(lambda: nothing_is_left(api), 10, "all to be removed")


def test_a_large_file_needs_little_memory(api: Api, server: Server) -> None:
    piece = bytes(range(256)) * 4096
    count, rest = divmod(BIG, len(piece))
    digest = hashlib.sha256()

    def form() -> Iterator[bytes]:
        yield PURPOSE + HEAD
        for part in (*(piece for _ in range(count)), piece[:rest]):
            digest.update(part)
            yield part
        yield b"\r\n" + END

    small = requests.post(
        f"{server.url}/v1/files", data=PURPOSE + FILE + END, headers=headers(api), timeout=30
    ).json()
    assert requests.get(f"{server.url}/v1/files/{small['id']}/content", headers=headers(api), timeout=30).ok
    before = peak_memory(server)
    answer = requests.post(f"{server.url}/v1/files", data=form(), headers=headers(api, **KEY), timeout=170)
    file: dict[str, Any] = answer.json()
    assert (answer.status_code, file["bytes"], file["sha256"]) == (200, BIG, digest.hexdigest())
    after_upload = peak_memory(server)
    read = hashlib.sha256()
    path = f"{server.url}/v1/files/{file['id']}/content"
    with requests.get(path, headers=headers(api), stream=True, timeout=60) as content:
        assert content.headers["Content-Length"] == str(BIG)
        assert "Content-Encoding" not in content.headers
        for part in content.iter_content(1 << 20):
            read.update(part)
    assert read.digest() == digest.digest()
    after = peak_memory(server)
    assert after_upload - before < 15_000_000
    assert after - before < 20_000_000
    tail = requests.get(path, headers=headers(api) | {"Range": "bytes=-5"}, timeout=30)
    assert (tail.status_code, tail.content) == (206, (piece + piece[:rest])[-5:])


def test_a_reader_that_goes_away_or_is_slow_holds_up_nobody(emptied: Api, shared: Server) -> None:
    body = PURPOSE + HEAD + b"x" * 30_000_000 + b"\r\n" + END
    file = requests.post(f"{shared.url}/v1/files", data=body, headers=headers(emptied), timeout=60).json()
    path = f"/v1/files/{file['id']}/content"
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {emptied.key}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shared.port), 20) as reader:
        reader.sendall(request.encode())
        assert reader.recv(1000).startswith(b"HTTP/1.1 200")
        assert requests.get(f"{shared.url}/v1/files", headers=headers(emptied), timeout=3).ok
    worker = psutil.Process(shared.process.pid).children()[0]
    wait_until(
        lambda: not [one for one in worker.open_files() if one.path.endswith(file["id"][5:])],
        10,
        "the file to be closed",
    )


def peak_memory(server: Server) -> int:
    """The most memory that the one serving process ever had, in bytes."""
    worker = psutil.Process(server.process.pid).children()[0]
    status = Path(f"/proc/{worker.pid}/status")
    if not status.exists():
        pytest.skip("only Linux tells the peak")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
