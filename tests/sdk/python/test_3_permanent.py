"""Failures that no wait can mend: they arrive at once and as the vendor sent them."""

import pytest

from call import Call, Client, Seen, make_call, plain
from cases import rows

# What the SDKs call them. They have no class of their own for every status.
CLASSES = {
    "openai": {
        400: "BadRequestError",
        401: "AuthenticationError",
        402: "APIStatusError",
        403: "PermissionDeniedError",
        404: "NotFoundError",
        413: "APIStatusError",
        422: "UnprocessableEntityError",
        429: "RateLimitError",
        501: "InternalServerError",
        505: "InternalServerError",
    },
    "anthropic": {
        400: "BadRequestError",
        401: "AuthenticationError",
        402: "PaymentRequiredError",
        403: "PermissionDeniedError",
        404: "NotFoundError",
        413: "ContentTooLargeError",
        422: "UnprocessableEntityError",
        429: "RateLimitError",
        501: "InternalServerError",
        505: "InternalServerError",
    },
}


@rows("permanent")
def test_the_error_arrives_at_once_and_unchanged(client: Client, call: Call, fault: dict, note) -> None:
    seen = make_call(client, call, fault["fault"] + ",ok", account=f"{client}-{call}")
    note(client, call, fault["name"], seen)

    without = make_call(client, call, fault["fault"], at="lab", max_retries=0)
    assert facts_of(seen) == facts_of(without)
    assert isinstance(seen.error, getattr(__import__(client.family), CLASSES[client.family][fault["status"]]))
    assert (len(seen.exchanges), len(seen.upstream)) == (1, 1)
    assert seen.seconds < 1.0
    assert seen.header("x-surgetank-fallback") is None


@rows("permanent", kind="data")
def test_it_is_worth_comparing(client: Client, call: Call, fault: dict) -> None:
    without = facts_of(make_call(client, call, fault["fault"], at="lab", max_retries=0))
    assert without["status_code"] == fault["status"]
    assert without["message"] and without["body"]


def facts_of(seen: Seen) -> dict:
    """Everything that an application can read from the exception."""
    error = seen.error
    if error is None:
        pytest.fail("the call succeeded")
    names = ("status_code", "message", "body", "code", "type", "param")
    facts = {name: plain(getattr(error, name, None)) for name in names} | {"class": type(error).__name__}
    return facts | {"text": plain(error.response.text) if hasattr(error, "response") else None}
