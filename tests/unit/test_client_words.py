"""The Python client is a package of its own and imports nothing of the server: its words are held to ours."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, get_args

import pytest
from headrace import types

from app.domain.batch_states import BatchStatus
from app.domain.delivery import SUBSCRIBABLE, DeliveryStatus
from app.domain.lanes import Priority
from app.domain.limits import TenantLimits
from app.domain.scopes import SCOPES, USUAL_SCOPES
from app.domain.states import JobStatus
from app.intake.file_request import Purpose


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (types.Scope, SCOPES),
        (types.JobStatus, JobStatus),
        (types.BatchStatus, BatchStatus),
        (types.DeliveryStatus, DeliveryStatus),
        (types.WebhookEventType, SUBSCRIBABLE),
        (types.FilePurpose, Purpose),
        (types.Priority, [priority.name.lower() for priority in Priority]),
    ],
)
def test_the_clients_words_are_the_servers(theirs: Any, ours: Iterable[str]) -> None:
    assert sorted(get_args(theirs)) == sorted(ours)


def test_the_clients_limits_are_the_servers() -> None:
    assert list(types.TenantLimits.__annotations__) == [field.name for field in fields(TenantLimits)]


def test_a_key_may_do_all_but_what_is_the_operators_unless_it_is_said() -> None:
    assert set(SCOPES) - set(USUAL_SCOPES) == {"admin"}
