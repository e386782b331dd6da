"""Media of inputs: which values name it, where it stands, and how much of it is held."""

import base64
from typing import Any, Literal
from uuid import UUID

import jsonschema_rs
import pytest
from pydantic import BaseModel, RootModel, ValidationError

from app.domain.egress import EgressPolicy
from app.domain.media import (
    MAX_DATA_BYTES,
    MOST,
    BadMedia,
    FileReference,
    Media,
    MediaPolicy,
    UrlReference,
    read_reference,
)
from app.domain.model import Model
from app.errors import Invalid
from app.intake.media import MediaCheck, MediaFinder, TooManyMedia, put
from app.intake.source import spec_of
from tests.support import hostile
from workers.media.room import NoRoom, Room, Share, TooLarge

FILE = "file_" + "0" * 31 + "7"
URL = "https://example.com/a/cat%20one.png?size=2"
PNG = "data:image/png;base64,iVBORw=="


class Picture(BaseModel):
    image: Media


class Deep(BaseModel):
    """Media wherever it may stand."""

    class Loud(BaseModel):
        kind: Literal["loud"]
        what: Media

    class Quiet(BaseModel):
        kind: Literal["quiet"]
        what: str

    first: Media | None = None
    many: list[Media | int] = []
    by_name: dict[str, Media] = {}
    either: Loud | Quiet | None = None
    text: str = ""


def finder(shape: type[BaseModel]) -> MediaFinder:
    found = MediaFinder.of(shape.model_json_schema())
    assert found is not None
    return found


def fits(value: Any) -> bool:
    return jsonschema_rs.is_valid(Picture.model_json_schema(), {"image": value})


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        ({"file_id": FILE}, FileReference(UUID(int=7))),
        (URL, UrlReference(URL)),
        (PNG, Media(b"\x89PNG", "image/png")),
        ("data:image/png;name=a.png;base64,iVBORw==", Media(b"\x89PNG", "image/png")),
        ("data:image/svg+xml,%3Csvg%2F%3E", Media(b"<svg/>", "image/svg+xml")),
        ("data:,", Media(b"", "text/plain")),
    ],
)
def test_three_shapes_name_media(value: Any, reference: object) -> None:
    assert fits(value)
    assert read_reference(value) == reference


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        [],
        {},
        "",
        "cat.png",
        "file:///etc/passwd",
        "ftp://example.com/cat.png",
        "javascript:alert(1)",
        " https://example.com/",
        "HTTPS://example.com/",
        FILE,
        {"file_id": None},
        {"file_id": "file_1"},
        {"file_id": FILE.upper()},
        {"file_id": f"{FILE}\n"},
        {"file_id": FILE.replace("file", "job")},
        {"file_id": FILE, "filename": "x"},
        {"url": URL},
        {"url": URL, "file_id": FILE, "headers": {"Authorization": "Bearer x"}},
    ],
)
def test_nothing_else_fits_the_schema(value: Any) -> None:
    assert not fits(value)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("data:text/html;base64", "invalid_data_url"),
        ("data:png;base64,AAAA", "invalid_data_url"),
        ("data:image/png;base64,AAA", "invalid_data_url"),
        ("data:image/png;base64,AA AA", "invalid_data_url"),
        ("data:image/png;base64,AA-_", "invalid_data_url"),
        ("data:image/png;base64,ﬀ", "invalid_data_url"),
        ("data:text/plain,a b", "invalid_data_url"),
        ("data:text/plain,%zz", "invalid_data_url"),
        ("data:text/plain,é", "invalid_data_url"),
        (f"data:;base64,{base64.b64encode(bytes(MAX_DATA_BYTES + 1)).decode()}", "too_long"),
        (f"data:;base64,{'A' * 400_000}", "too_long"),
        (f"data:,{'a' * (MAX_DATA_BYTES + 1)}", "too_long"),
        (f"https://example.com/{'a' * 2048}", "too_long"),
    ],
    ids=lambda value: value[:30],
)
def test_what_only_looks_like_media_is_refused_and_not_repeated(url: str, code: str) -> None:
    with pytest.raises(BadMedia) as refused:
        read_reference(url)
    assert refused.value.code == code
    assert url not in str(refused.value)


def test_a_data_url_may_hold_256_kib_however_it_is_written() -> None:
    content = bytes(range(256)) * 1024
    assert read_reference(f"data:;base64,{base64.b64encode(content).decode()}").bytes == content  # type: ignore[union-attr]
    written = "data:," + "".join(f"%{byte:02x}" for byte in content)
    assert fits(written)
    assert read_reference(written).bytes == content  # type: ignore[union-attr]


@pytest.mark.parametrize(("url", "why"), [one for one in hostile.URLS if not one[0].startswith("data:")])
def test_no_url_that_leads_inside_is_accepted(url: str, why: str) -> None:
    value = {"image": url.replace("PORT", "443")}
    if not fits(value["image"]):
        return
    errors, _ = MediaCheck(finder(Picture), MediaPolicy())(value)
    assert [(error.pointer, error.code) for error in errors] in (
        [("/input/image", "blocked_url")],
        [("/input/image", "invalid_url")],
    )


def test_credentials_in_a_url_are_refused() -> None:
    check = MediaCheck(finder(Picture), MediaPolicy())
    for url in ("https://user:secret@example.com/", "https://token@example.com/a.png"):
        ((error,), _) = check({"image": url})
        assert (error.code, error.message) == ("invalid_url", "must not hold credentials")


def test_urls_can_be_switched_off_and_http_be_allowed() -> None:
    off = MediaCheck(finder(Picture), MediaPolicy(urls=False))
    ((error,), _) = off({"image": URL})
    assert error.code == "blocked_url"
    assert off({"image": PNG}) == ([], [])
    ((error,), _) = MediaCheck(finder(Picture), MediaPolicy())({"image": "http://example.com/"})
    assert error.code == "invalid_url"
    local = MediaPolicy(EgressPolicy(allow_http=True, allow_loopback=True))
    assert MediaCheck(finder(Picture), local)({"image": "http://127.0.0.1:8000/"}) == ([], [])


def test_media_is_found_where_the_schema_says_and_nowhere_else() -> None:
    value = {
        "first": URL,
        "many": [1, PNG, {"file_id": FILE}],
        "by_name": {"a/b~c": URL, "": PNG},
        "either": {"kind": "loud", "what": URL},
        "text": URL,
    }
    found = finder(Deep)
    paths = {place.path for place in found.find(value)}
    assert paths == {
        ("first",),
        ("many", 1),
        ("many", 2),
        ("by_name", "a/b~c"),
        ("by_name", ""),
        ("either", "what"),
    }
    assert found.find({"either": {"kind": "quiet", "what": URL}}) == []
    assert found.find({"first": None, "many": [], "text": PNG}) == []


def test_an_input_that_is_media_itself_is_found_and_put() -> None:
    shape = RootModel[Media]
    (place,) = finder(shape).find(URL)
    assert place.path == ()
    media = Media(b"1")
    assert shape.model_validate(put(URL, place.path, media)).root is media


def test_what_is_put_in_is_what_the_model_gets() -> None:
    value = {"first": URL, "many": [1, URL], "by_name": {"a": URL}, "either": {"kind": "loud", "what": URL}}
    for number, place in enumerate(finder(Deep).find(value)):
        value = put(value, place.path, Media(bytes([number])))
    read = Deep.model_validate(value)
    got = [read.first, read.many[1], read.by_name["a"], read.either.what]  # type: ignore[union-attr]
    assert all(isinstance(media, Media) for media in got)


def test_a_model_never_sees_a_reference() -> None:
    for value in (URL, PNG, {"file_id": FILE}, b"bytes"):
        with pytest.raises(ValidationError):
            Picture.model_validate({"image": value})
    assert Media(b"secret").open().read() == b"secret"
    assert "secret" not in repr(Media(b"secret"))


def test_a_job_has_a_bounded_number_of_media() -> None:
    check = MediaCheck(finder(Deep), MediaPolicy())
    assert check({"many": [PNG] * MOST})[0] == []
    assert check({"many": [PNG] * (MOST + 1)})[0][0].code == "too_long"
    # A million are not looked at one by one.
    with pytest.raises(TooManyMedia):
        finder(Deep).find({"many": ["data:,"] * 100_000})


def test_files_are_named_with_their_places() -> None:
    errors, named = MediaCheck(finder(Deep), MediaPolicy())({"many": [{"file_id": FILE}, 2]})
    assert errors == []
    assert [(file.pointer, file.id) for file in named] == [("/input/many/0/file_id", UUID(int=7))]


def test_names_are_names_and_no_paths() -> None:
    assert UrlReference(URL).filename == "cat one.png"
    for url in (
        "https://e.com",
        "https://e.com/",
        "https://e.com/..",
        "https://e.com/a%0ab",
        "https://e.com/%5c",
    ):
        assert UrlReference(url).filename is None
    assert UrlReference("https://e.com/a/..%2f..%2fetc%2fpasswd").filename == "passwd"


def test_models_without_media_are_left_alone() -> None:
    class Plain(BaseModel):
        text: str

    assert MediaFinder.of(Plain.model_json_schema()) is None


class GivesMedia(Model):
    """Wants to answer with media."""

    name = "gives-media"
    Input = Picture
    Output = Picture

    def predict(self, values: list[Any]) -> list[Any]:
        return values


def test_an_output_cannot_hold_media() -> None:
    with pytest.raises(Invalid, match="Output can't hold Media"):
        spec_of(f"{__file__}:GivesMedia")


def test_a_job_has_its_share_and_a_window_its_room() -> None:
    room = Room(window_bytes=100, job_bytes=60)
    one, other, third = Share(room), Share(room), Share(room)
    one.take(60)
    with pytest.raises(TooLarge):
        one.take(1)
    other.take(40)
    with pytest.raises(NoRoom):
        third.take(1)
    other.close()
    third.take(40)
    with pytest.raises(NoRoom):
        other.take(1)
    other.close()
    with pytest.raises(NoRoom):
        third.take(1)
