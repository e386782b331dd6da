"""The body of a job request: what is taken, and that every place is named."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Invalid
from app.intake.request import JobRequest, read

GOOD: dict[str, Any] = {"model": "echo", "input": {}}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def refusal(body: Any) -> Invalid | None:
    try:
        read(body, allow_local_webhooks=False)
    except Invalid as error:
        return error
    return None


@given(st.dictionaries(st.sampled_from([*JobRequest.model_fields, "other"]), anything))
def test_whatever_the_members_are_it_is_read_or_named(members: dict[str, Any]) -> None:
    refused = refusal({**GOOD, **members})
    if refused is not None:
        assert refused.code == "invalid_request"
        assert refused.errors
        for place in refused.errors:
            assert place.pointer.split("/")[1].replace("~1", "/").replace("~0", "~") in members
            assert place.code
            assert place.message


@given(anything)
def test_whatever_the_body_is_it_is_read_or_refused(body: Any) -> None:
    refused = refusal(body)
    assert refused is None or refused.errors


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/a/b?c=d&e=%20",
        "https://[2606:4700::1111]/",
        "https://xn--mnchen-3ya.example/",
        "https://203.0.113.7/hook",
    ],
)
def test_web_addresses_that_are_taken(url: str) -> None:
    assert read({**GOOD, "webhook": url}, allow_local_webhooks=False).webhook == url


@pytest.mark.parametrize(
    "url",
    [
        "https://[::1",
        "https://:443/",
        "https://a@b/",
        "//example.com",
        "HTTP://example.com/",
        "https://a\\b/",
    ],
)
def test_web_addresses_that_are_not(url: str) -> None:
    with pytest.raises(Invalid) as refused:
        read({**GOOD, "webhook": url}, allow_local_webhooks=False)
    assert refused.value.errors[0].pointer == "/webhook"


def test_messages_do_not_repeat_values() -> None:
    secret = "my diary"
    body = {
        **GOOD,
        "model": {secret: 1},
        "priority": secret,
        "webhook": secret,
        "metadata": {"k": [secret]},
        "use_case": [secret],
        "webhook_events_filter": [secret],
    }
    with pytest.raises(Invalid) as refused:
        read(body, allow_local_webhooks=False)
    assert len(refused.value.errors) >= 6
    assert secret not in str([place.message for place in refused.value.errors])
