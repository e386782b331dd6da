"""An image by every way that media can be named, through real processes; its edges come back as a file."""

import base64
import hashlib
import io
from typing import Any

import orjson
import pytest
from aiohttp import web
from PIL import Image

from tests.support.client import Caller
from tests.support.models import EXAMPLES
from tests.support.pictures import circle
from tests.support.receiver import receiver
from tests.support.stacks import RunningStack

pytestmark = pytest.mark.torch


def test_an_image_comes_in_by_three_ways_and_a_large_answer_goes_out_as_a_file(stack: RunningStack) -> None:
    done = stack.headracectl("models", "register", f"{EXAMPLES / 'picture.py'}:Picture")
    assert done.returncode == 0, done.stderr
    caller = Caller(stack)
    image = circle(600, 500, noise=True)
    sent = stack.request(
        "POST", "/v1/files", data={"purpose": "vision"}, files={"file": ("circle.png", io.BytesIO(image))}
    )
    assert sent.status_code == 200, sent.text
    with receiver() as server:
        server.answers["/circle.png"] = lambda _: web.Response(body=image, content_type="image/png")
        named: list[Any] = [
            {"file_id": sent.json()["id"]},
            server.url("/circle.png"),
            f"data:image/png;base64,{base64.b64encode(circle(60, 50)).decode()}",
        ]
        ids = [caller.submit("picture", {"image": media, "edges": True}) for media in named]
        jobs = [caller.wait(job_id, 90) for job_id in ids]
    assert [job["status"] for job in jobs] == ["succeeded"] * 3, [job["error"] for job in jobs]
    assert jobs[2]["output"]["width"] == 60
    by_file, by_url = (job["output"] for job in jobs[:2])
    assert set(by_file) == {"file_id", "size", "sha256"}
    assert (by_file["size"], by_file["sha256"]) == (by_url["size"], by_url["sha256"])
    content = stack.request("GET", f"/v1/files/{by_file['file_id']}/content").content
    assert hashlib.sha256(content).hexdigest() == by_file["sha256"]
    output = orjson.loads(content)
    assert Image.open(io.BytesIO(base64.b64decode(output["edges"]))).size == (600, 500)
    stack.request("DELETE", f"/v1/jobs/{ids[0]}")
    assert stack.request("GET", f"/v1/files/{by_file['file_id']}").status_code == 404
