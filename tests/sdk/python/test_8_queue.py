"""A queued request: 202 is an answer to every client, and the real one is found where it says."""

import json
import time
import urllib.request

from call import STACK, Call, Client, make_call
from cases import calls
from lab import forever

ACCOUNT = "queue"
PATIENCE = 20.0
FINISHED = {"chat": "stop", "responses": "completed", "messages": "end_turn"}


def result(location: str) -> tuple[int, str, str]:
    """Status, content type and body of a queued request's answer, once it is there."""
    request = urllib.request.Request(STACK["queued"] + location, headers={"authorization": f"Bearer sk-test-{ACCOUNT}"})
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with urllib.request.urlopen(request, timeout=5) as answer:
            if answer.status != 202:
                return answer.status, answer.headers["content-type"], answer.read().decode()
        time.sleep(0.05)
    raise TimeoutError(f"{location} is still pending after {PATIENCE} s")


@calls(kind="text")
def test_a_queued_request_is_an_answer_and_leads_to_the_real_one(client: Client, call: Call, note) -> None:
    seen = make_call(client, call, "ok", at="queued", account=ACCOUNT, headers={"prefer": "respond-async"})
    note(client, call, "respond-async", seen)

    assert seen.error is None
    assert [exchange.status for exchange in seen.exchanges] == [202]
    assert seen.header("x-surgetank-fallback") == "queue"
    assert seen.header("preference-applied") == "respond-async"
    location = seen.header("location")
    assert location == f"/_surgetank/queue/{seen.header('x-surgetank-queue-id')}"
    assert seen.answer.text == f"Queued; the answer will be at {location}."
    assert seen.answer.finish == FINISHED[call.dialect]

    status, kind, body = result(location)
    assert status == 200
    if call.streams:
        assert kind.startswith("text/event-stream")
        assert "data: " in body
    else:
        assert json.loads(body)["id"]


@calls(kind="object")
def test_structured_output_gets_a_refusal(client: Client, call: Call, note) -> None:
    seen = make_call(client, call, forever("503"), at="queued_down", account=ACCOUNT)
    note(client, call, "503, queued by its chain", seen)

    assert seen.error is None
    assert [exchange.status for exchange in seen.exchanges] == [202]
    assert (seen.answer.parsed, seen.answer.text) == (None, "")
    assert seen.answer.refusal == f"Queued; the answer will be at {seen.header('location')}."


@calls(kind="text")
def test_an_outage_is_queued(client: Client, call: Call, note) -> None:
    seen = make_call(client, call, forever("503"), at="queued_down", account=ACCOUNT)
    note(client, call, "503, queued by its chain", seen)

    assert seen.error is None
    assert [exchange.status for exchange in seen.exchanges] == [202]
    assert seen.header("x-surgetank-fallback") == "queue"
    assert seen.header("preference-applied") is None
    assert seen.answer.text.startswith("Queued; ")
