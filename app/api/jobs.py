"""`/v1/jobs`: submit, look, list."""

from flask import Blueprint, Response, request

from app.api import parameters as p
from app.api.answers import POLL_AGAIN_S, accepted, base_url, hold, json_answer, list_answer, wanted_wait
from app.api.body import read_json
from app.api.operation import Answer, Operation, route
from app.api.schemas import Job, JobList
from app.api.services import services
from app.db import jobs as sql
from app.domain.states import TERMINAL
from app.errors import RequestError
from app.intake import control, view
from app.intake.authenticate import Principal
from app.intake.idempotency import once
from app.intake.listing import read_filter
from app.intake.request import JobRequest, read
from app.observability import metrics

blueprint = Blueprint("jobs", __name__)


@route(
    blueprint,
    Operation(
        "createJob",
        "POST",
        "/v1/jobs",
        "jobs",
        "Submit a job",
        "Answers at once with 202, or holds the answer with `Prefer: wait=N`. Repeat a request that broke"
        " with the same `Idempotency-Key`: there will be one job.",
        scope="jobs:write",
        parameters=(p.IDEMPOTENCY_KEY, p.PREFER, p.CONTENT_ENCODING),
        body=JobRequest,
        answers={
            202: Answer("The job is queued.", Job, headers=p.ACCEPTED_HEADERS),
            200: Answer("The job ended while the answer was held.", Job, headers=p.ENDED_HEADERS),
        },
        errors=(
            *p.BODY_ERRORS,
            "invalid_prefer",
            "invalid_idempotency_key",
            "idempotency_in_flight",
            "job_gone",
            "invalid_request",
            "invalid_input",
            "unknown_model",
            "unknown_version",
            "version_mismatch",
            "idempotency_key_reused",
            *p.FULL_ERRORS,
        ),
    ),
)
def create(principal: Principal) -> Response:
    """Accept a job."""
    parts = services()
    wait_s = wanted_wait()
    try:
        body = read_json()
        asked = read(body, parts.egress)
        key = once(request.headers.get("Idempotency-Key"), "jobs", body)
        return accepted(principal, parts.intake.prepare(principal, asked), key, wait_s)
    except RequestError as error:
        metrics.ACCEPT_REFUSED.labels(error.code).inc()
        raise


@route(
    blueprint,
    Operation(
        "getJob",
        "GET",
        "/v1/jobs/<job_id>",
        "jobs",
        "Get a job",
        "With `Prefer: wait=N` the answer is held until the job has ended, N seconds at most.",
        scope="jobs:read",
        parameters=(p.JOB_ID, p.PREFER),
        answers={200: Answer("The job.", Job, headers=("Preference-Applied", "Retry-After"))},
        errors=("invalid_prefer", "job_not_found"),
    ),
)
def get(principal: Principal, job_id: str) -> Response:
    """One job."""
    wait_s, key = wanted_wait(), control.parse_job_id(job_id)
    headers: dict[str, str] = {}
    if wait_s is None:
        row = services().reader.fetch(principal, key)
    else:
        row, headers = hold(principal, key, wait_s)
    if row.status in TERMINAL:
        return json_answer(view.job(row, base_url()), headers=headers)
    headers["Retry-After"] = POLL_AGAIN_S
    return json_answer(view.job(row, base_url()) | services().forecasts.of(row), headers=headers)


@route(
    blueprint,
    Operation(
        "listJobs",
        "GET",
        "/v1/jobs",
        "jobs",
        "List jobs",
        "Newest first. Filters narrow together; go on with `after=<last_id>` while `has_more`.",
        scope="jobs:read",
        parameters=p.LIST_JOBS,
        answers={200: Answer("A page.", JobList)},
        errors=("invalid_request", "invalid_cursor"),
    ),
)
def list_all(principal: Principal) -> Response:
    """A page of the tenant's jobs."""
    where = read_filter(principal.tenant_id, request.args.items(multi=True))
    rows = sql.list_jobs(services().engine, where)
    base = base_url()
    shown = [view.listed_job(row, base) for row in rows[: where.limit]]
    return list_answer(shown, has_more=len(rows) > where.limit)
