"""The table that both languages read."""

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

TABLES = Path(__file__).parent.parent
CASES: dict[str, Any] = json.loads((TABLES / "cases.json").read_text())
MATRIX: dict[str, Any] = json.loads((TABLES / "matrix.json").read_text())
PROMPT: str = CASES["prompt"]
REPLY: str = CASES["reply"]
TRIES: int = 1 + CASES["retries"]


class Thing(BaseModel):
    """What structured calls ask for."""

    name: str
    litres: int


THING = Thing(**CASES["object"])
