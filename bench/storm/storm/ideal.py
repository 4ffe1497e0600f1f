"""What a clairvoyant queue would serve.

It knows the quota to the token and the outage in advance, and never calls in vain.
"""

from .storms import BURST, Call, Scale, Storm


def ideal_waits(storm: Storm, calls: list[Call], scale: Scale) -> list[float]:
    """The waits, to the last word, of those whom the ideal serves, first come first served.

    All callers have the same patience, so the first to come is the first to leave, and serving in the order of arrival
    serves the most.
    """
    outage = tuple(map(scale.real, storm.outage)) if storm.outage else None
    waits, tokens, updated, free_at = [], float(BURST), 0.0, 0.0
    for call in calls:
        start = max(call.at, free_at)
        start = _after(start, outage)
        tokens = min(BURST, tokens + (start - updated) * scale.rate)
        updated = start
        if tokens < 1:
            start = _after(start + (1 - tokens) / scale.rate, outage)
            tokens = min(BURST, tokens + (start - updated) * scale.rate)
            updated = start
        if start - call.at > scale.patience:
            continue
        # Rounding must not leave a hair less than nothing in the bucket.
        tokens, free_at = max(0.0, tokens - 1), start
        waits.append(start - call.at + scale.answer)
    return waits


def _after(moment: float, outage: tuple[float, ...] | None) -> float:
    return outage[1] if outage and outage[0] <= moment < outage[1] else moment
