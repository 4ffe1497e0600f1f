"""The table that both languages read."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

CASES: dict[str, Any] = json.loads((Path(__file__).parent.parent / "cases.json").read_text())
PROMPT: str = CASES["prompt"]
REPLY: str = CASES["reply"]
TRIES: int = 1 + CASES["retries"]


class Thing(BaseModel):
    """What structured calls ask for."""

    name: str
    litres: int


THING = Thing(**CASES["object"])
