"""The example that takes an image: it measures what is on it, and one broken image harms no other."""

import base64
import io
import struct
import zlib
from typing import Any

import orjson
import pytest
from PIL import Image

from app.domain.model import Media
from app.errors import JobError
from app.intake.source import spec_of
from tests.conformance.test_runners import QuietContext
from tests.support.models import EXAMPLES
from tests.support.pictures import circle
from workers.runners.local import LocalRunner

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def runner() -> LocalRunner:
    return LocalRunner.load(spec_of(f"{EXAMPLES / 'picture.py'}:Picture"), "cpu")


def run(runner: LocalRunner, *values: dict[str, Any]) -> list[Any]:
    read = [runner.read(value)[0] for value in values]
    outputs = runner.run(read, QuietContext()).outputs
    return [orjson.loads(output) if isinstance(output, bytes) else output for output in outputs]


def test_it_says_what_is_on_the_image(runner: LocalRunner) -> None:
    (seen,) = run(runner, {"image": Media(circle(300, 200)), "edges": True})
    assert (seen["width"], seen["height"]) == (300, 200)
    assert seen["colour"].startswith("#ff")
    drawn = Image.open(io.BytesIO(base64.b64decode(seen["edges"])))
    strong = [(x, y) for x in range(300) for y in range(200) if drawn.getpixel((x, y)) > 64]  # type: ignore[operator]
    assert strong
    for x, y in strong:
        assert abs(((x - 150) ** 2 + (y - 100) ** 2) ** 0.5 - 66) < 4, "there are edges at the circle only"


def test_images_that_look_alike_have_hashes_alike(runner: LocalRunner) -> None:
    first, smaller, other = run(
        runner,
        {"image": Media(circle(300, 200))},
        {"image": Media(circle(150, 100, "jpeg"))},
        {"image": Media(circle(300, 200, noise=True))},
    )

    def apart(one: Any, two: Any) -> int:
        return (int(one["dhash"], 16) ^ int(two["dhash"], 16)).bit_count()

    assert apart(first, smaller) <= 4 < apart(first, other)


def test_what_is_broken_fails_alone(runner: LocalRunner) -> None:
    image = circle(64, 64)
    whole, broken = run(runner, {"image": Media(image)}, {"image": Media(image[:-60])})
    assert whole["width"] == 64
    assert isinstance(broken, JobError)
    assert broken.code == "broken_image"
    with pytest.raises(JobError, match="not_an_image"):
        runner.read({"image": Media(b"hello")})


def test_a_small_file_that_is_a_huge_image_is_refused_by_its_header(runner: LocalRunner) -> None:
    head = b"IHDR" + struct.pack(">IIBBBBB", 6000, 6000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    bomb += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(JobError, match="image_too_large"):
        runner.read({"image": Media(bomb)})
