"""The `headrace` command: the SDK for shells and scripts."""

from headrace.cli.root import cli


def main() -> None:
    """The console script."""
    cli()
