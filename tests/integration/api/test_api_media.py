"""Media at the edge: judged before a job is queued, by syntax, by the rules for URLs, by whose file it is."""

from typing import Any

import orjson
import pytest

from app.db import models
from app.domain.ids import format_id
from app.domain.stages import StoredOutput
from app.intake.source import spec_of
from app.intake.upload import put_aside
from tests.integration.api.client import Api, HandWorker
from tests.integration.api.test_api_files import nothing_is_left, storage_of, uploaded
from tests.support import models as test_models

URL = "https://example.com/cat.png"
PNG = "data:image/png;base64,iVBORw=="


@pytest.fixture(autouse=True)
def weigh(api: Api) -> None:
    models.register(api.queue.engine, spec_of(f"{test_models.__file__}:Weigh"), actor="test")


def submit(api: Api, media: Any, **more: Any) -> Any:
    return api.post("/v1/jobs", json={"model": "weigh", "input": {"media": media, **more}})


def wrong(answer: Any) -> list[tuple[str, str]]:
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_input"), answer.text
    return [(error["pointer"], error["code"]) for error in answer.json["errors"]]


def test_a_model_says_where_it_takes_media(api: Api) -> None:
    schema = api.get("/v1/models/weigh").json["input_schema"]
    assert schema["properties"]["media"]["x-headrace-media"] is True
    assert schema["properties"]["more"]["items"]["anyOf"][0]["x-headrace-media"] is True


@pytest.mark.parametrize("purpose", ["vision", "user_data", "batch"])
def test_a_file_a_url_and_bytes_are_accepted_and_shown_as_they_came(api: Api, purpose: str) -> None:
    file = {"file_id": uploaded(api, purpose=purpose)["id"]}
    for media in (file, URL, PNG):
        job = submit(api, media, more=[None, file])
        assert job.status_code == 202, job.text
        assert job.json["input"] == {"media": media, "more": [None, file]}


def test_a_file_that_is_not_there_is_refused_like_one_of_another_tenant(api: Api, stranger: Api) -> None:
    gone, mine = uploaded(api)["id"], uploaded(api)["id"]
    api.request("DELETE", f"/v1/files/{gone}")
    foreign = uploaded(stranger)["id"]
    never = "file_" + "0" * 32
    answers = [submit(api, PNG, more=[{"file_id": mine}, {"file_id": id}]) for id in (gone, foreign, never)]
    for answer in answers:
        assert wrong(answer) == [("/input/more/1/file_id", "file_not_found")]
    assert len({answer.json["errors"][0]["message"] for answer in answers}) == 1
    assert api.get("/v1/jobs").json["data"] == []
    assert submit(stranger, {"file_id": foreign}).status_code == 202


@pytest.mark.parametrize(
    ("media", "place", "code"),
    [
        ("cat.png", "/input/media", "pattern"),
        ({"file_id": "cat"}, "/input/media/file_id", "pattern"),
        ({}, "/input/media", "required"),
        ({"file_id": "file_" + "0" * 32, "token": "x"}, "/input/media", "unknown_field"),
        (7, "/input/media", "wrong_type"),
        ("data:image/png;base64,?", "/input/media", "invalid_data_url"),
        ("http://example.com/", "/input/media", "invalid_url"),
        ("https://user:secret@example.com/", "/input/media", "invalid_url"),
        ("https://169.254.169.254/latest/meta-data/", "/input/media", "blocked_url"),
        ("https://metadata.google.internal/", "/input/media", "blocked_url"),
    ],
)
def test_what_is_no_media_is_refused_with_its_place(api: Api, media: Any, place: str, code: str) -> None:
    answer = submit(api, media)
    assert wrong(answer) == [(place, code)]
    assert "secret" not in answer.text


def test_text_that_looks_like_media_is_only_text(api: Api) -> None:
    assert submit(api, PNG, note="https://10.0.0.1/").status_code == 202


def test_a_stored_output_is_read_as_a_file_and_erased_with_its_job(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    (claimed,) = worker.claim()
    storage = storage_of(api)
    file_id, sha256 = put_aside(api.queue.engine, storage, api.queue.tenant_id, b'{"a": 1}')
    stub = {"file_id": format_id("file", file_id), "size": 8, "sha256": sha256.hex()}
    file = StoredOutput(file_id, claimed.tenant_id, 8, sha256, keep_s=60)
    worker.settle(claimed, output=orjson.dumps(stub).decode(), file=file)
    assert api.get(f"/v1/jobs/{job['id']}").json["output"] == stub
    (listed,) = api.get("/v1/files?purpose=job_output").json["data"]
    assert (listed["id"], listed["filename"]) == (stub["file_id"], f"{job['id']}.json")
    assert api.get(f"/v1/files/{stub['file_id']}/content").data == b'{"a": 1}'
    assert api.request("DELETE", f"/v1/jobs/{job['id']}").json["output"] is None
    assert api.get(f"/v1/files/{stub['file_id']}").status_code == 404
    assert nothing_is_left(api)


def test_an_input_without_files_asks_for_none(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.files.those_there", None)
    assert submit(api, URL, more=[PNG]).status_code == 202
    assert api.submit({"file_id": "file_1"})["status"] == "queued"
