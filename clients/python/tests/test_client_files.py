"""Files: sent as they are read, read as they come, and right at the end or not there at all."""

import hashlib
import io
import os

import pytest
from batch_testkit import FakeBatches, content_reply, read_form
from client_testkit import Reply, problem
from headrace import APIConnectionError, ChecksumError, Client, File, PayloadTooLargeError

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def stored():
    return FakeBatches().store(CONTENT)


def _cut_at(size, content=CONTENT):
    """The answer breaks off after so many bytes."""

    def answer(request):
        whole = content_reply(content, request)
        headers = whole.headers | {"Content-Length": str(len(whole.body))}
        return Reply(whole.status, headers=headers, pieces=[whole.body[:size]])

    return answer


def _whole(content=CONTENT):
    return lambda request: content_reply(content, request)


def test_a_file_is_a_form_with_its_length_known(client, script, stored, tmp_path):
    (tmp_path / 'ü "1".jsonl').write_bytes(CONTENT)
    script.then(Reply(body=stored))
    made = client.files.create(tmp_path / 'ü "1".jsonl', expires_after=3600)
    (sent,) = script.requests
    assert int(sent.headers["Content-Length"]) == len(sent.body)
    assert "Transfer-Encoding" not in sent.headers
    form = read_form(sent)
    assert form["file"] == CONTENT
    assert form["purpose"] == b"batch"
    assert form["expires_after[anchor]"] == b"created_at"
    assert form["expires_after[seconds]"] == b"3600"
    assert 'filename="ü %221%22.jsonl"'.encode() in sent.body
    assert isinstance(made, File)
    assert (made.bytes, made.purpose, made.expires_at) == (len(CONTENT), "batch", None)


def test_an_upload_that_broke_is_sent_again_whole_under_one_key(client, script, stored):
    script.then(Reply(drop=True), problem(503, "down", retryable=True), Reply(body=stored))
    progress = []
    client.files.create(io.BytesIO(CONTENT), on_progress=lambda sent, size: progress.append((sent, size)))
    assert [read_form(sent)["file"] for sent in script.requests] == [CONTENT] * 3
    assert len({sent.headers["Idempotency-Key"] for sent in script.requests}) == 1
    assert progress[-1] == (len(CONTENT), len(CONTENT))


def test_a_pipe_can_be_sent_again_and_an_open_file_goes_from_where_it_stands(client, script, stored):
    script.then(Reply(drop=True), Reply(body=stored), Reply(body=stored))
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        with os.fdopen(writing, "wb") as other:
            other.write(CONTENT[:5000])
        with pytest.raises(ChecksumError, match="received another"):
            client.files.create(pipe)
    file = io.BytesIO(CONTENT)
    file.seek(256)
    with pytest.raises(ChecksumError):
        client.files.create(file)
    assert [read_form(sent)["file"] for sent in script.requests] == [CONTENT[:5000]] * 2 + [CONTENT[256:]]


@pytest.mark.parametrize("source", ["no such file", io.StringIO("text")])
def test_what_is_no_file_is_refused_before_anything_is_sent(client, script, source):
    with pytest.raises((FileNotFoundError, TypeError)):
        client.files.create(source)
    assert script.requests == []


def test_a_file_that_is_too_large_is_not_sent_twice(client, script):
    script.then(problem(413, "file_too_large"))
    with pytest.raises(PayloadTooLargeError):
        client.files.create(io.BytesIO(CONTENT))
    assert len(script.requests) == 1


def test_content_is_resumed_where_the_connection_broke(client, script, clock):
    script.then(_cut_at(100_000), Reply(drop=True), problem(503, "down", retryable=True))
    script.then(_cut_at(70_000), _whole())
    assert b"".join(client.files.content("file_1")) == CONTENT
    asked = [sent.headers.get("Range") for sent in script.requests]
    assert asked == [None, "bytes=100000-", "bytes=100000-", "bytes=100000-", "bytes=170000-"]
    assert {sent.headers.get("If-Range") for sent in script.requests[1:]} == {
        f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    }
    assert len(clock.sleeps) == 4


def test_who_answers_a_range_with_all_of_it_is_understood(client, script):
    script.then(_cut_at(100_000), lambda _: content_reply(CONTENT, _NoRange))
    assert b"".join(client.files.content("file_1")) == CONTENT


class _NoRange:
    headers: dict = {}  # noqa: RUF012


def test_content_that_never_comes_is_an_error_in_the_end(server, key, clock, script):
    script.then(*[_cut_at(0)] * 4)
    client = Client(server.url, key, max_retries=1, clock=clock.as_clock())
    with client, pytest.raises(APIConnectionError):
        list(client.files.content("file_1"))
    assert len(script.requests) == 4


def test_wrong_content_is_not_believed(client, script):
    def forged(request):
        reply = content_reply(CONTENT, request)
        return Reply(body=reply.body[:-1] + b"?", headers=reply.headers)

    script.then(forged)
    with pytest.raises(ChecksumError):
        list(client.files.content("file_1"))


def test_a_download_goes_on_after_a_crash_and_appears_when_it_is_whole(client, script, stored, tmp_path):
    target = tmp_path / "out.jsonl"
    script.then(Reply(body=stored), _cut_at(100_000), problem(404, "file_not_found"))
    with pytest.raises(Exception, match="file_not_found"):
        client.files.download(stored["id"], target)
    assert not target.exists()
    script.then(Reply(body=stored), _whole())
    assert client.files.download(stored["id"], target) == target
    assert target.read_bytes() == CONTENT
    assert script.requests[-1].headers["Range"] == "bytes=100000-"
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_a_download_that_is_not_what_the_server_has_leaves_nothing(client, script, stored, tmp_path):
    other = CONTENT[:-1] + b"?"
    script.then(Reply(body=stored), _whole(other))
    with pytest.raises(ChecksumError):
        client.files.download(stored["id"], tmp_path / "out.jsonl")
    assert os.listdir(tmp_path) == []


def test_find_and_delete(live):
    names = [live.batches.store(b"x", f"{number}.jsonl")["id"] for number in range(3)]
    with Client() as client:
        assert [file.id for file in client.files.list()] == names[::-1]
        assert [file.filename for file in client.files.list(limit=1, after=names[2])] == ["1.jsonl"]
        client.files.delete(names[0])
        assert [file.id for file in client.files.list()] == names[:0:-1]
        assert client.files.get(names[1]).sha256 == hashlib.sha256(b"x").hexdigest()
