"""The `openai` package, unmodified: only its base URL and its key are ours."""

import base64
import struct
import time
from collections.abc import Iterator

import openai
import orjson
import pytest
from openai.types import Batch

from tests.e2e.test_flow import WORDS, texts
from tests.support.client import Caller
from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until

SIZE = 384
LINES = 5000


@pytest.fixture
def client(stack: RunningStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.api_key) as client:
        yield client


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"minilm", "echo"} <= set(listed)
    found = client.models.retrieve("minilm")
    assert (found.id, found.object, found.owned_by) == ("minilm", "model", "headrace")
    assert found.created == listed["minilm"].created
    with pytest.raises(openai.NotFoundError, match="no such model"):
        client.models.retrieve("gpt-9")


@pytest.mark.torch
def test_a_text_is_embedded_as_by_a_job(client: openai.OpenAI, stack: RunningStack) -> None:
    text = "The mill-race drives the wheel."
    answer = client.embeddings.create(model="minilm", input=text)
    assert answer.object == "list"
    assert answer.model == "minilm"
    (one,) = answer.data
    assert (one.object, one.index) == ("embedding", 0)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 5

    caller = Caller(stack)
    job = caller.wait(caller.submit("minilm", {"text": text}))
    assert answer.usage.prompt_tokens == job["usage"]["units"]
    assert one.embedding == pytest.approx(job["output"]["embedding"], abs=1e-4)


@pytest.mark.torch
def test_numbers_and_base64_are_the_same_in_the_order_of_the_texts(client: openai.OpenAI) -> None:
    wanted = texts(40)
    default = client.embeddings.create(model="minilm", input=wanted)  # asks for base64, and decodes it
    numbers = client.embeddings.create(model="minilm", input=wanted, encoding_format="float")
    raw = client.embeddings.create(
        model="minilm", input=wanted[::-1], encoding_format="base64", dimensions=SIZE
    )
    assert [one.index for one in default.data] == list(range(40))
    for ours, theirs in zip(default.data, numbers.data, strict=True):
        assert ours.embedding == pytest.approx(theirs.embedding, abs=1e-4)
    for ours, theirs in zip(default.data, reversed(raw.data), strict=True):
        assert isinstance(theirs.embedding, str)
        decoded = struct.unpack(f"<{SIZE}f", base64.b64decode(theirs.embedding))
        assert list(decoded) == pytest.approx(ours.embedding, abs=1e-4)
    assert default.usage.total_tokens == numbers.usage.total_tokens == raw.usage.total_tokens


@pytest.mark.torch
def test_2048_texts_in_one_call(client: openai.OpenAI, stack: RunningStack) -> None:
    wanted = [text[:40] for text in texts(2048)]  # the model is not what is tried
    began = time.monotonic()
    answer = client.embeddings.create(model="minilm", input=wanted)
    assert time.monotonic() - began < 60
    assert [one.index for one in answer.data] == list(range(2048))
    assert {len(one.embedding) for one in answer.data} == {SIZE}
    # Each text got its own: the same ones, asked for alone, are these.
    for number in (0, 1000, 2047):
        alone = client.embeddings.create(model="minilm", input=wanted[number]).data[0].embedding
        assert answer.data[number].embedding == pytest.approx(alone, abs=1e-4)
    assert stack.headracectl("doctor").returncode == 0


def test_errors_are_its_own_and_say_what_is_wrong(client: openai.OpenAI, stack: RunningStack) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert unknown.value.code == "model_not_found"

    with pytest.raises(openai.UnprocessableEntityError) as empty:
        client.embeddings.create(model="minilm", input=["fine", ""])
    assert (empty.value.code, empty.value.param) == ("invalid_request", "input.1")
    assert "/input/1: should have at least 1 character" in empty.value.message

    with pytest.raises(openai.UnprocessableEntityError, match="not token ids"):
        client.embeddings.create(model="minilm", input=[101, 2023, 102])
    with pytest.raises(openai.UnprocessableEntityError, match="does not turn a text into an embedding"):
        client.embeddings.create(model="echo", input="a")
    with pytest.raises(openai.UnprocessableEntityError, match="must be 384"):
        client.embeddings.create(model="minilm", input="a", dimensions=256)

    stranger = client.with_options(api_key="hr_nobody_nothing")
    with pytest.raises(openai.AuthenticationError):
        stranger.embeddings.create(model="minilm", input="a")


@pytest.fixture(scope="module")
def done(stack: RunningStack) -> Iterator[tuple[openai.OpenAI, list[str], Batch]]:
    """A batch of 5,000 texts at its end."""
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.api_key) as client:
        wanted = [f"{number} {WORDS[number % len(WORDS)]}" for number in range(LINES)]
        file = client.files.create(file=("in.jsonl", embeddings_file(wanted)), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/embeddings",
            completion_window="24h",
            metadata={"of": "test_openai"},
        )
        seen: list[tuple[int, int]] = []

        def ended() -> bool:
            nonlocal batch
            batch = client.batches.retrieve(batch.id)
            if counts := batch.request_counts:
                seen.append((counts.total, counts.completed + counts.failed))
            return batch.completed_at is not None

        wait_until(ended, 240, "the batch to be completed")
        assert {total for total, _ in seen} <= {0, LINES}
        assert [done for _, done in seen] == sorted(done for _, done in seen)
        assert seen[-1] == (LINES, LINES)
        yield client, wanted, batch


def embeddings_file(wanted: list[str]) -> bytes:
    lines = [
        {
            "custom_id": f"text-{number}",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "minilm", "input": text},
        }
        for number, text in enumerate(wanted)
    ]
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_5000_lines_are_embedded_as_one_by_one(done: tuple[openai.OpenAI, list[str], Batch]) -> None:
    client, wanted, batch = done
    assert (batch.status, batch.error_file_id, batch.errors) == ("completed", None, None)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": LINES, "completed": LINES, "failed": 0}
    assert batch.output_file_id is not None
    lines = [orjson.loads(line) for line in client.files.content(batch.output_file_id).iter_lines()]
    assert [line["custom_id"] for line in lines] == [f"text-{number}" for number in range(LINES)]
    assert all(line["response"]["status_code"] == 200 and line["error"] is None for line in lines)
    for number in (0, 1, 2499, LINES - 1):
        alone = client.embeddings.create(model="minilm", input=wanted[number], encoding_format="float")
        body = lines[number]["response"]["body"]
        assert body["data"][0]["embedding"] == pytest.approx(alone.data[0].embedding, abs=1e-4)
        assert body["usage"]["total_tokens"] == alone.usage.total_tokens
    assert batch.id in [one.id for one in client.batches.list(limit=5)]


@pytest.mark.torch
@pytest.mark.timeout(300)
def test_a_batch_is_cancelled(done: tuple[openai.OpenAI, list[str], Batch]) -> None:
    client, wanted, first = done
    assert client.batches.cancel(first.id) == first
    batch = client.batches.create(
        input_file_id=first.input_file_id, endpoint="/v1/embeddings", completion_window="24h"
    )
    wait_until(lambda: client.batches.retrieve(batch.id).in_progress_at, 60, "the batch to run")
    assert client.batches.cancel(batch.id).status == "cancelling"
    wait_until(
        lambda: client.batches.retrieve(batch.id).status == "cancelled", 60, "the batch to be cancelled"
    )
    counts = client.batches.retrieve(batch.id).request_counts
    assert counts is not None
    assert (counts.total, counts.completed + counts.failed) == (len(wanted), len(wanted))
    assert counts.failed > 0


def test_what_is_wrong_with_a_batch_is_said_by_line(client: openai.OpenAI) -> None:
    content = embeddings_file(["fine"]) + b"not json\n" + embeddings_file(["fine"])
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    wait_until(lambda: client.batches.retrieve(batch.id).status == "failed", 60, "the batch to fail")
    errors = client.batches.retrieve(batch.id).errors
    assert errors is not None
    assert [(one.line, one.code) for one in errors.data or ()] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
    ]
    with pytest.raises(openai.NotFoundError) as missing:
        client.batches.create(input_file_id="file-1", endpoint="/v1/embeddings", completion_window="24h")
    assert (missing.value.code, missing.value.param) == ("file_not_found", "input_file_id")
    with pytest.raises(openai.UnprocessableEntityError, match="endpoint"):
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
