"""What is counted, and how."""

import math
from dataclasses import dataclass, field
from enum import StrEnum


class Got(StrEnum):
    """How a call ended for its caller."""

    ANSWER = "answer"  # the model's, whole
    REPLY = "reply"  # a friendly text in its place
    ERROR = "error"  # a status or a broken answer
    TIMEOUT = "timeout"  # nothing within the caller's own time


@dataclass(frozen=True)
class Ending:
    user: str
    got: Got
    waited: float
    detail: str = ""


@dataclass
class Outcome:
    """One contender in one storm."""

    contender: str
    storm: str
    endings: list[Ending]
    upstream_calls: int
    ideal: int
    fair: dict[str, float]
    lag_p99: float
    load: float
    details: dict[str, int] = field(default_factory=dict)

    def count(self, *gots: Got) -> int:
        return sum(ending.got in gots for ending in self.endings)

    @property
    def served(self) -> int:
        return self.count(Got.ANSWER)

    @property
    def errors(self) -> int:
        return self.count(Got.ERROR, Got.TIMEOUT)

    @property
    def calls_per_answer(self) -> float:
        return self.upstream_calls / self.served if self.served else math.inf

    @property
    def share_of_ideal(self) -> float:
        return self.served / self.ideal

    def served_by_user(self) -> dict[str, int]:
        counts = dict.fromkeys(self.fair, 0)
        for ending in self.endings:
            counts[ending.user] += ending.got is Got.ANSWER
        return counts

    @property
    def fairness(self) -> float:
        counts = self.served_by_user()
        return jain([counts[user] / share for user, share in self.fair.items()])

    def wait(self, part: float, *, of_all: bool) -> float:
        """The wait that this part of the callers did not exceed; among all, those without an answer wait for ever."""
        waits = [e.waited if e.got is Got.ANSWER else math.inf for e in self.endings]
        return quantile(waits if of_all else [w for w in waits if w < math.inf], part)


def quantile(values: list[float], part: float) -> float:
    """The nearest-rank quantile; infinite when there are no values."""
    if not values:
        return math.inf
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]


def jain(shares: list[float]) -> float:
    """Jain's fairness index: 1 when all are equal, 1/n when one has everything.

    Source: Jain, Chiu and Hawe, "A Quantitative Measure of Fairness", DEC-TR-301, 1984.
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 0.0


def max_min(demand: dict[str, int], total: float) -> dict[str, float]:
    """The fair division of `total`: nobody gets more than was asked, and what one leaves is divided among the others.

    Jain's index compares what a user got with this, so that a user who asks for more than a fair share and does not get
    it is no unfairness.
    """
    shares: dict[str, float] = {}
    waiting = sorted(demand.items(), key=lambda item: item[1])
    for index, (user, asked) in enumerate(waiting):
        shares[user] = min(asked, total / (len(waiting) - index))
        total -= shares[user]
    return shares
