"""The commands that take a job's id, and `list`."""

import click

from headrace.cli import output
from headrace.cli.params import Seconds, job_id, json_option, limit_option, metadata_option
from headrace.cli.session import Session, pass_session
from headrace.cli.stopping import job_goes_on, told_if_interrupted
from headrace.errors import WaitTimeout
from headrace.types import JobStatus

_STATUSES = ["queued", "running", "succeeded", "failed", "canceled", "expired"]


@click.command()
@job_id
@json_option
@pass_session
def get(session: Session, job_id: str, as_json: bool) -> None:
    """Show a job."""
    output.details(session.client.jobs.get(job_id), as_json)


@click.command()
@job_id
@click.option("--timeout", type=Seconds(min=0), metavar="SECONDS", help="Default: none.")
@json_option
@pass_session
def wait(session: Session, job_id: str, timeout: float | None, as_json: bool) -> None:
    """Wait until a job ends, and print its output."""
    job = session.client.jobs.get(job_id)
    try:
        with told_if_interrupted(job_goes_on(job.id)):
            job.wait(timeout)
    except WaitTimeout:
        if as_json:
            output.document(job.raw)
        raise
    output.result(job, as_json)


@click.command("list")
@click.option("--status", type=click.Choice(_STATUSES))
@click.option("--model", metavar="NAME")
@click.option("--created-after", metavar="TIME", help="RFC 3339, as 2026-01-31T12:00:00Z.")
@click.option("--created-before", metavar="TIME")
@metadata_option
@click.option("--after", metavar="ID", help="Go on after this job.")
@limit_option
@json_option
@pass_session
def list_(
    session: Session,
    status: JobStatus | None,
    model: str | None,
    created_after: str | None,
    created_before: str | None,
    metadata: tuple[tuple[str, str], ...],
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first."""
    found = session.client.jobs.list(
        status=status,
        model=model,
        created_after=created_after,
        created_before=created_before,
        metadata=dict(metadata),
        after=after,
        limit=limit,
    )
    output.listing(
        found,
        limit,
        as_json,
        ["ID", "STATUS", "MODEL", "CREATED"],
        lambda job: (job.id, job.status, job.model, output.ago(job.created_at)),
    )


@click.command()
@job_id
@json_option
@pass_session
def cancel(session: Session, job_id: str, as_json: bool) -> None:
    """End a job: at once if queued, within one micro-batch if running."""
    job = session.client.jobs.cancel(job_id)
    if as_json:
        output.document(job.raw)
    else:
        click.echo(f"{job.id} {output.clean(job.status_reason or job.status)}")


@click.command()
@job_id
@json_option
@pass_session
def retry(session: Session, job_id: str, as_json: bool) -> None:
    """Submit the same again, and print the new job's id."""
    job = session.client.jobs.retry(job_id)
    if as_json:
        output.document(job.raw)
    else:
        click.echo(job.id)


@click.command()
@job_id
@json_option
@pass_session
def delete(session: Session, job_id: str, as_json: bool) -> None:
    """Erase the input, metadata and output of a job that ended, for good."""
    session.client.jobs.delete(job_id)
    if as_json:
        output.document({"id": job_id, "deleted": True})
    else:
        click.echo(f"{job_id} deleted")
