"""The body of a job request: what is taken, and that every place is named."""

from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.egress import EgressPolicy
from app.errors import Invalid
from app.intake.request import JobRequest, read
from app.intake.tenant_request import read_tenant

GOOD: dict[str, Any] = {"model": "echo", "input": {}}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def refusal(body: Any) -> Invalid | None:
    try:
        read(body, EgressPolicy())
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
        "https://1.1.1.1/hook",
    ],
)
def test_web_addresses_that_are_taken(url: str) -> None:
    assert read({**GOOD, "webhook": url}, EgressPolicy()).webhook == url


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://[::1", "invalid_url"),
        ("https://:443/", "invalid_url"),
        ("https://a@b/", "invalid_url"),
        ("//example.com", "invalid_url"),
        ("HTTP://example.com/", "invalid_url"),
        ("https://a\\b/", "invalid_url"),
        ("https://127.0.0.1/", "blocked_url"),
        ("https://2130706433/", "blocked_url"),
        ("https://[::ffff:10.0.0.1]/", "blocked_url"),
        ("https://169.254.169.254/latest/meta-data/", "blocked_url"),
        ("https://localhost/", "blocked_url"),
        ("https://intranet/", "blocked_url"),
    ],
)
def test_web_addresses_that_are_not(url: str, code: str) -> None:
    error = refusal({**GOOD, "webhook": url})
    assert error is not None
    (place,) = error.errors
    assert (place.pointer, place.code) == ("/webhook", code)
    assert place.message.startswith("must ")
    assert url not in place.message


def test_what_may_be_called_is_the_operators_choice() -> None:
    local = EgressPolicy(allow_http=True, allow_loopback=True)
    inside = EgressPolicy(allow_networks=(ip_network("10.0.0.0/8"),))
    for url, policy in [("http://127.0.0.1:9/", local), ("https://10.1.2.3/", inside)]:
        assert read({**GOOD, "webhook": url}, policy).webhook == url
        assert refusal({**GOOD, "webhook": url}) is not None


def test_a_wrong_url_is_named_together_with_the_rest() -> None:
    error = refusal({"model": 1, "input": {}, "webhook": "https://10.0.0.1/"})
    assert error is not None
    assert [(place.pointer, place.code) for place in error.errors] == [
        ("/model", "wrong_type"),
        ("/webhook", "blocked_url"),
    ]


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
        read(body, EgressPolicy())
    assert len(refused.value.errors) >= 6
    assert secret not in str([place.message for place in refused.value.errors])


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (
            {"modle": "echo", "input": {}},
            ["/model: is required", "/modle: there is no such field; did you mean model?"],
        ),
        ({**GOOD, "colour": 1}, ["/colour: there is no such field"]),
        ({**GOOD, "models" * 20: 1}, [f"/{'models' * 20}: there is no such field"]),
        ({**GOOD, "policy": []}, ["/policy: should be a JSON object"]),
        ({**GOOD, "use_case": 5}, ["/use_case: should be a string"]),
        ({**GOOD, "retry": {"max_attempts": "3"}}, ["/retry/max_attempts: should be a whole number"]),
        ([], [": should be a JSON object"]),
    ],
)
def test_a_wrong_place_is_told_in_words_of_json(body: Any, places: list[str]) -> None:
    refused = refusal(body)
    assert refused is not None
    assert [f"{place.pointer}: {place.message}" for place in refused.errors] == places


@pytest.mark.parametrize("name", ["A B", "", "-a", "a" * 64, "acme\n"])
def test_what_a_tenant_may_be_called_is_told_in_words(name: str) -> None:
    with pytest.raises(
        Invalid, match="must be 1 to 63 of a-z, 0-9, - and _, and begin with a letter"
    ) as caught:
        read_tenant({"id": name})
    assert [(place.pointer, place.code) for place in caught.value.errors] == [("/id", "bad_format")]
