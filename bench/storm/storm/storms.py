"""The storms, in the time of the story; `Scale` compresses them.

In the story an API allows sixty requests a minute with a burst of ten, an answer takes six seconds, and a caller waits
a minute for one to begin.
"""

import random
from dataclasses import dataclass

RATE = 1.0  # requests a second
BURST = 10
ANSWER = 6.0  # seconds from the call to the last word
PATIENCE = 60.0  # seconds until a caller wants to see its answer begin
GRACE = 0.5  # real seconds that a caller's own clock is generous by, for a busy machine

# The classic policy, which every contender that can be told gets: 2, 4, 8 s, at most 30 s.
BASE, CAP, RETRIES = 2.0, 30.0, 3


@dataclass(frozen=True)
class Call:
    """One call of the crowd."""

    at: float  # real seconds after the storm's beginning
    user: str
    streams: bool


@dataclass(frozen=True)
class Storm:
    """One storm; times in seconds of the story."""

    name: str
    about: str
    calls: dict[str, int]  # by user
    lasts: float
    rejects_cost: float = 0.0
    outage: tuple[float, float] | None = None

    @property
    def asked(self) -> int:
        return sum(self.calls.values())


@dataclass(frozen=True)
class Scale:
    """How many seconds of the story pass in a real one."""

    speed: float

    def real(self, story: float) -> float:
        return story / self.speed

    @property
    def rate(self) -> float:
        return RATE * self.speed

    @property
    def patience(self) -> float:
        return self.real(PATIENCE)

    @property
    def answer(self) -> float:
        return self.real(ANSWER)

    @property
    def caller_timeout(self) -> float:
        """When a caller leaves: its patience, the answer's own length, and the grace."""
        return self.patience + self.answer + GRACE


def _users(count: int, calls: int) -> dict[str, int]:
    return {f"user-{number:02}": calls for number in range(count)}


STORMS = {
    storm.name: storm
    for storm in (
        Storm(
            name="burst",
            about="120 calls of 24 users at once; refusals are free",
            calls=_users(24, 5),
            lasts=1,
        ),
        Storm(
            name="overload",
            about="twice the quota for three minutes; one user sends five times the ten others together; "
            "a refusal costs half a request",
            calls=_users(10, 6) | {"greedy": 300},
            lasts=180,
            rejects_cost=0.5,
        ),
        Storm(
            name="outage",
            about="70 % load of 24 users for four minutes, the second of which the API answers every call with 500",
            calls=_users(24, 7),
            lasts=240,
            outage=(60, 120),
        ),
    )
}


def crowd(storm: Storm, scale: Scale, seed: int) -> list[Call]:
    """The calls of a storm in the order of their arrival: random moments, the same for every contender."""
    chance = random.Random(f"{seed} {storm.name}")
    users = [user for user, calls in storm.calls.items() for _ in range(calls)]
    chance.shuffle(users)
    moments = sorted(chance.uniform(0, scale.real(storm.lasts)) for _ in users)
    return [Call(at, user, chance.random() < 0.5) for at, user in zip(moments, users, strict=True)]
