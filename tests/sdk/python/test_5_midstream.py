"""A stream breaks after it began: nobody takes the part for the whole."""

from call import Call, Client, make_call
from cases import rows
from healthy import answer_to, healthy

BOUND = 3.0


@rows("broken", streams=True)
def test_the_application_is_told(client: Client, call: Call, fault: dict, note) -> None:
    # The fault's parameters come behind the answer's own text where one is asked for.
    _, _, text = answer_to(call).partition(";")
    seen = make_call(client, call, fault["fault"] + (f";{text}" if text else ""))
    note(client, call, fault["name"], seen)

    assert seen.error is not None, f"a part was taken for the whole: {seen.answer.text!r}, {seen.answer.finish}"
    assert seen.seconds < BOUND
    assert healthy(client, call).text.startswith(seen.answer.text)
    assert (len(seen.exchanges), len(seen.upstream)) == (1, 1), "what has begun cannot be tried again"
