"""`/v1/jobs/{id}/cancel`, `/retry` and `DELETE`: what is done to a job."""

from flask import Blueprint, Response, request

from app.api import parameters as p
from app.api.answers import accepted, base_url, json_answer, wanted_wait
from app.api.operation import Answer, Operation, route
from app.api.schemas import Job
from app.api.services import services
from app.intake import control, view
from app.intake.authenticate import Principal
from app.intake.idempotency import once

blueprint = Blueprint("job_control", __name__)


@route(
    blueprint,
    Operation(
        "cancelJob",
        "POST",
        "/v1/jobs/<job_id>/cancel",
        "jobs",
        "Cancel a job",
        "A queued job ends at once. A running one is asked to (`status_reason` is `cancel_requested`) and"
        " ends within one micro-batch. A job that ended stays as it is. Safe to repeat.",
        scope="jobs:write",
        parameters=(p.JOB_ID,),
        answers={200: Answer("The job.", Job)},
        errors=("job_not_found",),
    ),
)
def cancel(principal: Principal, job_id: str) -> Response:
    """End a job, or ask it to."""
    parts = services()
    row = control.cancel(parts.engine, parts.ringer, parts.wakeups, principal, control.parse_job_id(job_id))
    return json_answer(view.job(row, base_url()))


@route(
    blueprint,
    Operation(
        "retryJob",
        "POST",
        "/v1/jobs/<job_id>/retry",
        "jobs",
        "Run a job again",
        "A new job of the same version, input and options; `retry_of` names the first.",
        scope="jobs:write",
        parameters=(p.JOB_ID, p.IDEMPOTENCY_KEY, p.PREFER),
        answers={
            202: Answer("The new job is queued.", Job, headers=p.ACCEPTED_HEADERS),
            200: Answer("The new job ended while the answer was held.", Job, headers=p.ENDED_HEADERS),
        },
        errors=(
            "invalid_prefer",
            "invalid_idempotency_key",
            "job_not_found",
            "job_not_finished",
            "job_erased",
            "job_gone",
            "version_gone",
            "idempotency_in_flight",
            "idempotency_key_reused",
            *p.FULL_ERRORS,
        ),
    ),
)
def retry(principal: Principal, job_id: str) -> Response:
    """Submit the same again."""
    parts = services()
    wait_s = wanted_wait()
    key = once(request.headers.get("Idempotency-Key"), "jobs.retry", job_id)
    prepared = control.retry(parts.engine, parts.catalogue, principal, control.parse_job_id(job_id))
    return accepted(principal, prepared, key, wait_s)


@route(
    blueprint,
    Operation(
        "deleteJob",
        "DELETE",
        "/v1/jobs/<job_id>",
        "jobs",
        "Erase a job's data",
        "Input, metadata and output are erased for good; the record that there was a job stays. Safe to"
        " repeat.",
        scope="jobs:write",
        parameters=(p.JOB_ID,),
        answers={200: Answer("What is left of the job.", Job)},
        errors=("job_not_found", "job_not_finished"),
    ),
)
def erase(principal: Principal, job_id: str) -> Response:
    """Erase what a finished job held."""
    parts = services()
    row = control.erase(parts.engine, parts.storage, principal, control.parse_job_id(job_id))
    return json_answer(view.job(row, base_url()))
