"""A stream breaks, in every way and at every place: matrix.json says what each client makes of it, cell by cell."""

from typing import Any

import pytest

from call import Call, Client, Seen, differences, make_call
from cases import pairs
from healthy import healthy
from lab import saying
from table import MATRIX

BOUND = 20.0

CELLS = [
    pytest.param(client, call, row, id=f"{client}-{call}-{row['fault']}-{row['place']}".replace(" ", "-"))
    for client, call in pairs(streams=True)
    for row in MATRIX["rows"]
]


@pytest.mark.parametrize(("client", "call", "row"), CELLS)
def test_the_cell_is_as_the_table_says(client: Client, call: Call, row: dict[str, Any], note) -> None:
    well = saying(MATRIX["texts"][call.kind])
    _, _, text = well.partition(";")
    script = f"{row['script']};{text},{well}"
    seen = make_call(client, call, script, at="hurried", headers=row.get("headers"))
    note(client, call, f"{row['fault']} {row['place']}", seen)

    expected = row[call.dialect]
    assert seen.seconds < BOUND, "it hung"
    assert len(seen.exchanges) == 1, "what has begun cannot be tried again"
    assert len(seen.upstream) == (2 if expected == "retried" else 1)
    if expected in ("answer", "retried"):
        assert seen.error is None
        if not row["script"].startswith("giant"):
            assert differences(healthy(client, call, well).plain(), seen.answer.plain()) == []
        return
    assert seen.error is not None, f"a part was taken for the whole: {seen.answer.text!r}, {seen.answer.finish}"
    if expected != "raised":
        assert type(seen.error).__name__ in MATRIX["errors"][expected]["python"][client.family]
    assert healthy(client, call, well).text.startswith(seen.answer.text)
