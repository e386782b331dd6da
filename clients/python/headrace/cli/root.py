"""The group, its global options, and the one place where an error becomes a line and an exit code."""

import os
import sys
from typing import Any, NoReturn

import click

from headrace.cli import (
    audit,
    batch,
    catalog,
    files,
    jobs,
    keys,
    listen,
    submit,
    tail,
    tenants,
    webhooks,
)
from headrace.cli.output import clean, complain
from headrace.cli.session import Session
from headrace.cli.stopping import INTERRUPTED
from headrace.errors import (
    APIError,
    BatchError,
    BatchFailed,
    ConfigError,
    HeadraceError,
    JobError,
    WaitTimeout,
)
from headrace.version import __version__

JOB_NOT_SUCCEEDED, BAD_INPUT, API_FAILED, WAIT_TIMED_OUT = 1, 2, 3, 4
NOBODY_READS = 141
"""What a shell says of a program that a closed pipe ended: `headrace list | head -1` is no failed job."""

_BAD_INPUT_STATUSES = {400, 413, 415, 422}


class _FileTrouble(click.ClickException):
    """A file of the user's could not be read or written, perhaps half-way."""

    exit_code = API_FAILED


class Root(click.Group):
    """A group that ends with one line on stderr and a code that says whose fault it is."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is still buffered would fail once more, at the interpreter's end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(NOBODY_READS) from None
        except OSError as error:
            place = f"{error.filename}: " if error.filename is not None else ""
            raise _FileTrouble(f"{place}{error.strerror or error}") from None

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = BAD_INPUT
        except click.ClickException as error:
            complain(_with_hint(error))
            code = error.exit_code
        except click.Abort:
            complain("interrupted; what was submitted goes on")
            code = INTERRUPTED
        except HeadraceError as error:
            complain(clean(str(error)))
            code = _exit_code(error)
        sys.exit(code)


@click.group(cls=Root, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--url", envvar="HEADRACE_URL", show_envvar=True, help="The server.")
@click.option(
    "--api-key",
    envvar="HEADRACE_API_KEY",
    show_envvar=True,
    help="The key. Prefer the variable: other users can read a command line.",
)
@click.version_option(__version__, prog_name="headrace", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, url: str | None, api_key: str | None) -> None:
    """Submit inference jobs to a Headrace server, one by one or in bulk, and follow them.

    Without a URL and a key, those of the development stack in this folder (.headrace/env) are used.

    \b
    Exit codes: 0 ok; 1 the job, or some of the batch, did not succeed; 2 bad usage or input;
    3 the API, the connection or a file failed; 4 the wait timed out; 130 interrupted.
    """
    context.obj = Session(url, api_key)
    context.call_on_close(context.obj.close)


for command in (
    submit.submit,
    jobs.get,
    jobs.wait,
    jobs.list_,
    jobs.cancel,
    jobs.retry,
    jobs.delete,
    tail.tail,
    batch.batch,
    files.files,
    catalog.models,
    catalog.workers,
    webhooks.webhooks,
    listen.listen,
    tenants.tenants,
    keys.keys,
    audit.audit,
):
    cli.add_command(command)


def _exit_code(error: HeadraceError) -> int:
    match error:
        case BatchFailed():
            return BAD_INPUT
        case JobError() | BatchError():
            return JOB_NOT_SUCCEEDED
        case WaitTimeout():
            return WAIT_TIMED_OUT
        case ConfigError():
            return BAD_INPUT
        case APIError() if error.status in _BAD_INPUT_STATUSES:
            return BAD_INPUT
        case _:
            return API_FAILED


def _with_hint(error: click.ClickException) -> str:
    message = clean(error.format_message())
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see {context.command_path} --help)" if context else message
