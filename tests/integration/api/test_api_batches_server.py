"""Batches through the real server: OpenAI's own client, slow and vanishing readers."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest
import requests

from app.domain.batch_states import BatchStatus
from tests.integration.api.client import Api, uuid_of
from tests.integration.api.server import Server, serve
from tests.integration.api.test_api_batches import LINE, made
from tests.integration.api.test_api_files import LINES
from tests.support.batches import HandClerk
from tests.support.waiting import wait_until


@pytest.fixture
def server(api: Api, tmp_path: Path) -> Iterator[Server]:
    """One process, so that nothing can hide in another."""
    with serve(api.settings, tmp_path, HEADRACE_API_PROCESSES="1") as server:
        yield server


def test_openais_client_works_as_it_is(api: Api, server: Server) -> None:
    clerk = HandClerk.start(api.queue)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=api.key, max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", LINES), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/embeddings",
            completion_window="24h",
            metadata={"k": "v"},
            output_expires_after={"anchor": "created_at", "seconds": 3600},
        )
        assert (batch.id[:6], batch.object, batch.status) == ("batch_", "batch", "validating")
        assert (batch.endpoint, batch.input_file_id) == ("/v1/embeddings", file.id)
        assert (batch.completion_window, batch.metadata) == ("24h", {"k": "v"})
        assert abs(batch.created_at - time.time()) < 60
        assert batch.expires_at == batch.created_at + 86_400
        assert client.batches.retrieve(batch.id) == batch

        key = uuid_of({"id": batch.id})
        clerk.run(key, 4)
        clerk.work(key, 3)
        running = client.batches.retrieve(batch.id)
        assert running.request_counts is not None
        assert (running.request_counts.total, running.request_counts.completed) == (4, 3)
        asked = client.batches.cancel(batch.id)
        assert (asked.status, asked.cancelling_at is not None) == ("cancelling", True)
        assert client.batches.cancel(batch.id).cancelling_at == asked.cancelling_at

        wrong = client.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )
        clerk.wrong(uuid_of({"id": wrong.id}), 2, param="url")
        clerk.move(uuid_of({"id": wrong.id}), BatchStatus.FAILED)
        wrong = client.batches.retrieve(wrong.id)
        assert wrong.errors is not None
        assert wrong.errors.data is not None
        (error,) = wrong.errors.data
        assert (error.code, error.line, error.param) == ("invalid_json_line", 2, "url")
        assert [one.id for one in client.batches.list(limit=1)] == [wrong.id, batch.id]

        with pytest.raises(openai.NotFoundError) as missing:
            client.batches.create(
                input_file_id="file-abc", endpoint="/v1/embeddings", completion_window="24h"
            )
        assert (missing.value.code, missing.value.param) == ("file_not_found", "input_file_id")
        with pytest.raises(openai.NotFoundError, match="no such batch"):
            client.batches.retrieve("batch_1")
        with pytest.raises(openai.UnprocessableEntityError, match="endpoint"):
            client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="hr_nobody_nothing").batches.list()


def test_a_reader_of_results_that_is_slow_or_goes_away_holds_up_nobody(api: Api, server: Server) -> None:
    clerk, batch = HandClerk.start(api.queue), made(api, requests=[LINE])
    count = 60_000  # more than the sockets' buffers take
    clerk.run(uuid_of(batch), count)
    clerk.work(uuid_of(batch), count)
    path = f"/v1/batches/{batch['id']}/results"
    headers = {"Authorization": f"Bearer {api.key}"}
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.key}\r\n\r\n"
    worker = psutil.Process(server.process.pid).children()[0]

    def held() -> list[object]:
        port = server.port
        return [one for one in worker.net_connections("tcp") if one.laddr.port == port and one.raddr]

    with socket.create_connection(("127.0.0.1", server.port), 20) as reader:
        reader.sendall(request.encode())
        assert reader.recv(1000).startswith(b"HTTP/1.1 200")
        assert requests.get(f"{server.url}/v1/batches", headers=headers, timeout=3).ok
    wait_until(lambda: not held(), 10, "the server to let go of the reader that left")
    with requests.get(f"{server.url}{path}", headers=headers, stream=True, timeout=60) as answer:
        lines = sum(1 for _ in answer.iter_lines())
    assert lines == count
