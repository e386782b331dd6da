"""The `openai` package, unmodified: only its base URL and its key are ours."""

import base64
import struct
import time
from collections.abc import Iterator

import openai
import pytest

from tests.e2e.test_flow import texts
from tests.support.client import Caller
from tests.support.stacks import RunningStack

SIZE = 384


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
