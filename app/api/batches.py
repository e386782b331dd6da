"""`/v1/batches`, as OpenAI's: make, look, list, cancel; and ours: run again, read what is done."""

from flask import Blueprint, Response, request

from app.api import parameters as p
from app.api.answers import admit, base_url, file_limits, json_answer, list_answer
from app.api.body import read_json
from app.api.operation import Answer, Operation, route
from app.api.schemas import Batch, BatchList
from app.api.services import services
from app.domain.lanes import Lane
from app.intake import batch_request, batch_results, batch_view, batches
from app.intake.authenticate import Principal
from app.intake.batch_request import BatchRequest
from app.intake.batches import Batches, Made
from app.intake.idempotency import once
from app.intake.listing import read_batch_filter

_JSONL = "application/jsonl"

blueprint = Blueprint("batches", __name__)


@route(
    blueprint,
    Operation(
        "createBatch",
        "POST",
        "/v1/batches",
        "batches",
        "Submit a batch",
        "Every line of a file becomes a job, once all of them were found to be right. The input is a file"
        " (`input_file_id`), or comes along (`requests`). Repeat a request that broke with the same"
        " `Idempotency-Key`: there will be one batch.",
        scope="batches:write",
        parameters=(p.IDEMPOTENCY_KEY, p.CONTENT_ENCODING),
        body=BatchRequest,
        answers={200: Answer("The batch, which is about to be validated.", Batch, headers=p.MADE_HEADERS)},
        errors=(
            *p.BODY_ERRORS,
            "invalid_idempotency_key",
            "file_not_found",
            "idempotency_in_flight",
            "file_quota_exceeded",
            "invalid_request",
            "idempotency_key_reused",
            *p.FULL_ERRORS,
            "storage_not_configured",
        ),
    ),
)
def create(principal: Principal) -> Response:
    """Make a batch."""
    body = read_json()
    asked = batch_request.read(body, services().egress)
    key = once(_key(), batches.ENDPOINT, body)
    if not asked.dry_run:
        admit(principal, Lane.BATCH, len(asked.requests or (1,)), key)
    return _made(_batches(principal).create(asked, key))


@route(
    blueprint,
    Operation(
        "listBatches",
        "GET",
        "/v1/batches",
        "batches",
        "List batches",
        "Newest first. Filters narrow together; go on with `after=<last_id>` while `has_more`.",
        scope="batches:read",
        parameters=p.LIST_BATCHES,
        answers={200: Answer("A page.", BatchList)},
        errors=("invalid_request", "invalid_cursor"),
    ),
)
def list_all(principal: Principal) -> Response:
    """A page of the tenant's batches."""
    where = read_batch_filter(principal.tenant_id, request.args.items(multi=True))
    rows = batches.list_page(services().engine, where)
    base = base_url()
    shown = [batch_view.batch(row, base) for row in rows[: where.limit]]
    return list_answer(shown, has_more=len(rows) > where.limit)


@route(
    blueprint,
    Operation(
        "getBatch",
        "GET",
        "/v1/batches/<batch_id>",
        "batches",
        "Get a batch",
        "All counts of an answer are of one instant.",
        scope="batches:read",
        parameters=(p.BATCH_ID,),
        answers={200: Answer("The batch.", Batch)},
        errors=("batch_not_found",),
    ),
)
def get(principal: Principal, batch_id: str) -> Response:
    """One batch."""
    row = batches.fetch(services().engine, principal, batches.parse_batch_id(batch_id))
    return json_answer(batch_view.batch(row, base_url()))


@route(
    blueprint,
    Operation(
        "cancelBatch",
        "POST",
        "/v1/batches/<batch_id>/cancel",
        "batches",
        "Cancel a batch",
        "Jobs that wait end at once, those that run within one micro-batch; then it is `cancelled`, with the"
        " results there are in its files. A batch whose jobs have all ended (`finalizing`, or after) stays as"
        " it is. Safe to repeat.",
        scope="batches:write",
        parameters=(p.BATCH_ID,),
        answers={200: Answer("The batch.", Batch)},
        errors=("batch_not_found",),
    ),
)
def cancel(principal: Principal, batch_id: str) -> Response:
    """Ask for its end."""
    parts = services()
    row = batches.cancel(parts.engine, parts.ringer, principal, batches.parse_batch_id(batch_id))
    return json_answer(batch_view.batch(row, base_url()))


@route(
    blueprint,
    Operation(
        "retryBatch",
        "POST",
        "/v1/batches/<batch_id>/retry",
        "batches",
        "Run what failed again",
        "A new batch of the jobs that did not succeed, under the same `custom_id`s; `retry_of` names the"
        " first. Lines that were wrong are not among them.",
        scope="batches:write",
        parameters=(p.BATCH_ID, p.IDEMPOTENCY_KEY),
        answers={200: Answer("The new batch.", Batch, headers=p.MADE_HEADERS)},
        errors=(
            "invalid_idempotency_key",
            "batch_not_found",
            "batch_not_ended",
            "nothing_to_retry",
            "idempotency_in_flight",
            "idempotency_key_reused",
            *p.FULL_ERRORS,
        ),
    ),
)
def retry(principal: Principal, batch_id: str) -> Response:
    """Make a batch of what failed in another."""
    key = once(_key(), batches.RETRY, batch_id)
    admit(principal, Lane.BATCH, 1, key)
    return _made(_batches(principal).retry(batches.parse_batch_id(batch_id), key))


@route(
    blueprint,
    Operation(
        "getBatchResults",
        "GET",
        "/v1/batches/<batch_id>/results",
        "batches",
        "Read what is done",
        "JSONL: a line for each job that has ended, whatever its end, in the order of the file. Also while"
        " the batch runs. An answer that breaks off is not whole: read again.",
        scope="batches:read",
        parameters=(p.BATCH_ID,),
        answers={200: Answer("The lines.", media=_JSONL)},
        errors=("batch_not_found",),
    ),
)
def results(principal: Principal, batch_id: str) -> Response:
    """What became of its jobs so far."""
    engine = services().engine
    row = batches.fetch(engine, principal, batches.parse_batch_id(batch_id))
    lines = () if request.method == "HEAD" else batch_results.stream(engine, row)
    answer = Response(lines, mimetype=_JSONL)
    # What runs yields other lines a moment later.
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _batches(principal: Principal) -> Batches:
    parts = services()
    return Batches(parts.engine, parts.storage, parts.ringer, file_limits(principal), principal)


def _key() -> str | None:
    return request.headers.get("Idempotency-Key")


def _made(made: Made) -> Response:
    shown = batch_view.first_batch(made.row, base_url())
    headers = {"Location": shown["urls"]["get"]}
    return json_answer(shown, headers=headers | ({"Idempotent-Replayed": "true"} if made.replayed else {}))
