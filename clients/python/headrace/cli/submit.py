"""`headrace submit`."""

from typing import Any, BinaryIO, cast, get_args

import click

from headrace.arguments import given
from headrace.cli import output
from headrace.cli.params import Pair, Seconds, json_option, metadata_option, read_input
from headrace.cli.session import Session, pass_session
from headrace.cli.stopping import job_goes_on, told_if_interrupted
from headrace.errors import WaitTimeout
from headrace.types import JobWebhookEvent, Policy, Priority, Retry

_UNTIL_IT_ENDS = "inf"


class _Submit(click.Command):
    """Lets `--wait` stand alone anywhere: without this, it would take the next word as its N."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = args[: args.index("--")] if "--" in args else args
        for index, word in enumerate(options):
            following = options[index + 1] if index + 1 < len(options) else ""
            if word == "--wait" and not _is_number(following):
                args = [*args[:index], f"--wait={_UNTIL_IT_ENDS}", *args[index + 1 :]]
        return super().parse_args(ctx, args)


@click.command(cls=_Submit)
@click.argument("model")
@click.argument("input_json", required=False)
@click.option("--input-file", type=click.File("rb"), help="Read the input from a file.")
@click.option(
    "-i",
    "pairs",
    metavar="KEY=VALUE",
    type=Pair(typed=True),
    multiple=True,
    help="One field of the input, as text; KEY:=JSON for anything else. May be repeated.",
)
@click.option(
    "--wait",
    metavar="[N]",
    type=Seconds(min=0),
    help="Wait until it ends, at most N seconds, and print the output.",
)
@click.option("--priority", type=click.Choice(["high", "normal", "low"]), help="Default: normal.")
@click.option(
    "--queue-ttl",
    metavar="SECONDS",
    type=Seconds(min=0, min_open=True),
    help="Expires if it has not begun by then. Default: a day.",
)
@click.option(
    "--execution-timeout",
    metavar="SECONDS",
    type=Seconds(min=0, min_open=True),
    help="How long a run may take. Default: the model's.",
)
@click.option(
    "--max-attempts",
    metavar="N",
    type=click.IntRange(min=1),
    help="How often the model's errors are tried in all. Default: 3.",
)
@click.option("--use-case", metavar="TEXT", help="What it is for, in your words.")
@metadata_option
@click.option("--webhook", metavar="URL", help="Where to call back when it ends.")
@click.option(
    "--webhook-event",
    "webhook_events",
    type=click.Choice(get_args(JobWebhookEvent)),
    multiple=True,
    help="What to call back for. May be repeated. Default: completed.",
)
@click.option("--idempotency-key", metavar="KEY", help="The same key never makes a second job.")
@json_option
@pass_session
def submit(
    session: Session,
    model: str,
    input_json: str | None,
    input_file: BinaryIO | None,
    pairs: tuple[tuple[str, Any], ...],
    wait: float | None,
    priority: Priority | None,
    queue_ttl: float | None,
    execution_timeout: float | None,
    max_attempts: int | None,
    use_case: str | None,
    metadata: tuple[tuple[str, str], ...],
    webhook: str | None,
    webhook_events: tuple[JobWebhookEvent, ...],
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Queue a job for MODEL and print its id.

    \b
    headrace submit minilm '{"text": "a sentence"}'
    headrace submit minilm -i text='a sentence' --wait
    cat input.json | headrace submit minilm -
    """
    value = read_input(input_json, input_file, pairs)
    try:
        job = session.client.submit(
            model,
            value,
            priority=priority,
            policy=cast(Policy, given(queue_ttl_s=queue_ttl, execution_timeout_s=execution_timeout)) or None,
            retry=cast(Retry, given(max_attempts=max_attempts)) or None,
            use_case=use_case,
            metadata=dict(metadata) or None,
            webhook=webhook,
            webhook_events_filter=webhook_events or None,
            idempotency_key=idempotency_key,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if wait is None:
        if as_json:
            output.document(job.raw)
        else:
            click.echo(job.id)
        return
    output.note(f"{job.id} {job.status}")
    try:
        with told_if_interrupted(job_goes_on(job.id)):
            job.wait(wait)
    except WaitTimeout:
        if as_json:
            output.document(job.raw)
        raise
    output.result(job, as_json)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
