"""One line of a batch's file: a valid request with the jobs it becomes, or what is wrong with it.

The body is read by the very code of `POST /v1/jobs` and `POST /v1/embeddings`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.db.ingest import NewItem
from app.domain.egress import EgressPolicy
from app.errors import FieldError, Invalid, Malformed, RequestError
from app.intake import embedding_request, json_body, request
from app.intake.accept import PRIORITY
from app.intake.catalogue import Catalogue, Listed
from app.intake.embedding_models import check_dimensions, check_embeds
from app.intake.lines import RawLine
from app.intake.media import NamedFile
from app.intake.request import JobRequest, Policy, Retry
from app.intake.unkept import pointer
from app.intake.validate import canonical, validate_input

JOBS = "/v1/jobs"
EMBEDDINGS = "/v1/embeddings"

MAX_CUSTOM_ID = 512

_MEMBERS = frozenset({"custom_id", "method", "url", "body"})
_POLICY, _RETRY = Policy(), Retry()
_MOST_MESSAGE = 500
# What is wrong with a body keeps these codes; anything else is an `invalid_request`.
_CODES = frozenset({"unknown_model", "unknown_version", "model_does_not_embed", "invalid_input"})


class WrongLine(Exception):
    """A line that can't be run. `param` is a JSON pointer into the line, or None for the whole of it."""

    def __init__(
        self, code: str, message: str, param: str | None = None, custom_id: str | None = None
    ) -> None:
        self.code = code
        self.message = message[:_MOST_MESSAGE]
        self.param = param
        self.custom_id = custom_id
        super().__init__(f"{code}: {self.message}")


@dataclass(frozen=True, slots=True)
class Line:
    """A valid line. `listed` is the model it runs; `jobs()` makes what is written to the queue."""

    custom_id: str
    listed: Listed
    inputs: Sequence[Any]
    asked: JobRequest | None
    encoding: str | None

    def jobs(self) -> list[NewItem]:
        """Its jobs, in order, not numbered."""
        asked, spec = self.asked, self.listed.version.spec
        policy = (asked.policy if asked else None) or _POLICY
        retry = (asked.retry if asked else None) or _RETRY
        limit = spec.execution_timeout_s
        events: tuple[str, ...] = ()
        if asked and asked.webhook:
            events = tuple(dict.fromkeys(asked.webhook_events_filter or ("completed",)))
        made = []
        for value in self.inputs:
            text = orjson.dumps(value)
            same = text if len(value) < 2 and self.encoding else canonical(value)
            made.append(
                NewItem(
                    version_id=self.listed.version.id,
                    priority=int(PRIORITY[asked.priority if asked else None]),
                    input=text,
                    input_hash=hashlib.sha256(same).digest(),
                    # Without one of its own, a job may wait for as long as its batch.
                    queue_ttl_s=policy.queue_ttl_s if "queue_ttl_s" in policy.model_fields_set else None,
                    execution_timeout_s=min(policy.execution_timeout_s or limit, limit),
                    max_attempts=retry.max_attempts,
                    initial_delay_ms=retry.initial_delay_ms,
                    max_delay_ms=retry.max_delay_ms,
                    custom_id=self.custom_id,
                    encoding=self.encoding,
                    webhook=asked.webhook if asked else None,
                    webhook_events=events,
                    use_case=asked.use_case if asked else None,
                    metadata=(asked.metadata if asked else None) or {},
                )
            )
        return made


class Versions:
    """The models of one batch, each as it was when the batch first named it: versions are fixed from then on.

    `fixed` are the ids that an earlier reading of the file found for names without a version.
    """

    def __init__(self, catalogue: Catalogue, fixed: Mapping[str, int] | None = None) -> None:
        self._catalogue = catalogue
        self.current: dict[str, int] = dict(fixed or {})
        self._known: dict[tuple[str, str | None], Listed] = {}
        self._embedding: dict[int, Invalid | None] = {}

    def resolve(self, model: str, version: str | None) -> Listed:
        """As `Catalogue.resolve`."""
        found = self._known.get((model, version))
        if found is None:
            if version is None and model in self.current:
                found = self._catalogue.by_id(self.current[model])
            else:
                found = self._catalogue.resolve(model, version)
            if version is None and "@" not in model:
                self.current[model] = found.version.id
            self._known[model, version] = found
        return found

    def check_embeds(self, listed: Listed) -> None:
        """Raises `Invalid` unless the model embeds; asked once for each."""
        key = listed.version.id
        if key not in self._embedding:
            self._embedding[key] = _refusal(listed)
        refused = self._embedding[key]
        if refused is not None:
            raise refused


class LineReader:
    """Reads the lines of one batch. `trusted` lines were validated before: their inputs are not again."""

    def __init__(
        self,
        endpoint: str,
        versions: Versions,
        egress: EgressPolicy,
        *,
        max_bytes: int,
        max_depth: int,
        trusted: bool = False,
        check_files: Callable[[Sequence[NamedFile]], None] | None = None,
    ) -> None:
        """`check_files` raises `Invalid` unless these, which media name, are files of the tenant."""
        self._endpoint = endpoint
        self._versions = versions
        self._egress = egress
        self._max_bytes = max_bytes
        self._max_depth = max_depth
        self._trusted = trusted
        self._check_files = check_files
        self._first: dict[str | bytes, int] = {}

    def read(self, raw: RawLine) -> Line:
        """The request of this line. Raises `WrongLine` with the first thing that is wrong."""
        if raw.text is None:
            raise WrongLine("line_too_large", f"the line is over {self._max_bytes} bytes")
        value = self._parse(raw.text)
        custom_id = self._custom_id(value, raw.number)
        try:
            body = self._body(value)
            if self._endpoint == EMBEDDINGS:
                return self._embeddings(custom_id, body)
            return self._job(custom_id, body)
        except WrongLine as wrong:
            wrong.custom_id = custom_id
            raise
        except RequestError as wrong:
            raise _wrong(wrong, custom_id) from None

    def _parse(self, text: bytes) -> dict[str, Any]:
        try:
            value = json_body.parse(text, self._max_depth)
        except (Malformed, Invalid) as wrong:
            first = wrong.errors[0] if wrong.errors else None
            message = first.message if first else wrong.detail.replace("the body", "the line", 1)
            raise WrongLine("invalid_json_line", message, first.pointer if first else None) from None
        if not isinstance(value, dict):
            raise WrongLine("invalid_json_line", "the line should be a JSON object")
        return value

    def _custom_id(self, value: dict[str, Any], number: int) -> str:
        custom_id = value.get("custom_id")
        if custom_id is None:
            raise WrongLine("missing_custom_id", "each line needs a custom_id of its own", "/custom_id")
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID or "\0" in custom_id:
            message = f"must be a text of 1 to {MAX_CUSTOM_ID} characters, none of them U+0000"
            raise WrongLine("invalid_custom_id", message, "/custom_id")
        if self._trusted:
            return custom_id
        # A long one is remembered by its hash: a million of them would take half a gigabyte.
        key = custom_id if len(custom_id) <= 40 else _hash(custom_id)
        first = self._first.setdefault(key, number)
        if first != number:
            message = f"line {first} has the same custom_id"
            raise WrongLine("duplicate_custom_id", message, "/custom_id", custom_id)
        return custom_id

    def _body(self, value: dict[str, Any]) -> Any:
        if value.get("method") != "POST":
            raise WrongLine("invalid_method", "must be POST", "/method")
        url = value.get("url")
        if url != self._endpoint:
            if url not in (JOBS, EMBEDDINGS):
                raise WrongLine("invalid_url", f"must be {self._endpoint}, as the batch's endpoint", "/url")
            raise WrongLine("url_mismatch", f"the batch is for {self._endpoint}", "/url")
        if len(value) > len(_MEMBERS):
            unknown = next(name for name in value if name not in _MEMBERS)
            raise WrongLine("invalid_request", "unknown member", pointer([unknown]))
        body = value.get("body")
        if not isinstance(body, dict):
            message = "should be the body of a request" if "body" in value else "is missing"
            raise WrongLine("invalid_request", message, "/body")
        return body

    def _job(self, custom_id: str, body: Any) -> Line:
        asked = request.read(body, self._egress)
        listed = self._versions.resolve(asked.model, asked.version)
        value = asked.input
        # The validator alone is asked where that is enough: writing the input as text costs as much again.
        if not self._trusted and (listed.check_media or not listed.validator.is_valid(value)):
            named = validate_input(listed, value, orjson.dumps(value))
            if named and self._check_files:
                self._check_files(named)
        return Line(custom_id, listed, (value,), asked, None)

    def _embeddings(self, custom_id: str, body: Any) -> Line:
        asked = embedding_request.read(body)
        placed = embedding_request.texts(asked)
        listed = self._versions.resolve(asked.model, None)
        self._versions.check_embeds(listed)
        if asked.dimensions is not None:
            check_dimensions(listed.version.spec, asked.dimensions)
        inputs = [{"text": text} for _, text in placed]
        if not self._trusted:
            for (place, _), value in zip(placed, inputs, strict=True):
                if not listed.validator.is_valid(value):
                    _refuse_text(listed, place, value)
        return Line(custom_id, listed, inputs, None, asked.encoding_format or "float")


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _refuse_text(listed: Listed, place: str, value: dict[str, str]) -> None:
    try:
        validate_input(listed, value, orjson.dumps(value))
    except Invalid as wrong:
        # What the model says of /input/text, it says of this text.
        errors = [FieldError(place, error.code, error.message) for error in wrong.errors]
        raise Invalid(wrong.code, wrong.detail, errors) from None


def _refusal(listed: Listed) -> Invalid | None:
    try:
        check_embeds(listed.version.spec)
    except Invalid as refused:
        return refused
    return None


def _wrong(wrong: RequestError, custom_id: str) -> WrongLine:
    first = wrong.errors[0] if wrong.errors else None
    code = wrong.code if wrong.code in _CODES else "invalid_request"
    param = f"/body{first.pointer}" if first else "/body"
    message = first.message if first else wrong.detail
    return WrongLine(code, message, param, custom_id)
