"""The guides of the HTTP API, of bulk work and of webhooks, run as they are written."""

import shutil
from pathlib import Path

import pytest

from tests.support import guides
from tests.support.stacks import RunningStack

needs_tools = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("jq") and shutil.which("bash")),
    reason="the guides use bash, curl and jq",
)


@needs_tools
def test_the_http_guide_works_as_written(stack: RunningStack, tmp_path: Path) -> None:
    (tmp_path / ".headrace").symlink_to(stack.state_dir)
    guides.run(guides.DOCS / "guides" / "http.md", tmp_path)


@needs_tools
@pytest.mark.torch
def test_the_bulk_guide_works_as_written(stack: RunningStack, tmp_path: Path) -> None:
    (tmp_path / ".headrace").symlink_to(stack.state_dir)
    guides.run(guides.DOCS / "guides" / "bulk.md", tmp_path)


@needs_tools
def test_the_webhook_guide_works_as_written(stack: RunningStack, tmp_path: Path) -> None:
    (tmp_path / ".headrace").symlink_to(stack.state_dir)
    guides.run(guides.DOCS / "guides" / "webhooks.md", tmp_path)
