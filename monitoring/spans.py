"""Interval arithmetic on half-open spans [start, end). Pure; works on anything that compares.

What PostgreSQL's multiranges do, on every database: lists of spans, unsorted or overlapping, in;
sorted, disjoint, not touching, not empty, out.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

type Span = tuple[datetime, datetime]


def union(*groups: Iterable[Span]) -> list[Span]:
    """Return what any of the groups covers."""
    merged: list[Span] = []
    for start, end in sorted(span for group in groups for span in group if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def intersection(one: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """Return what both cover."""
    left, right = union(one), union(other)
    both: list[Span] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start, end = max(left[i][0], right[j][0]), min(left[i][1], right[j][1])
        if start < end:
            both.append((start, end))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return both


def difference(one: Iterable[Span], other: Iterable[Span]) -> list[Span]:
    """Return what the first covers and the second does not."""
    rest: list[Span] = []
    holes = union(other)
    j = 0
    for start, end in union(one):
        while j < len(holes) and holes[j][1] <= start:
            j += 1
        k, at = j, start
        while k < len(holes) and holes[k][0] < end:
            if holes[k][0] > at:
                rest.append((at, holes[k][0]))
            at = max(at, holes[k][1])
            k += 1
        if at < end:
            rest.append((at, end))
    return rest


def length(spans: Iterable[Span]) -> timedelta:
    """Return how long these spans are together; what overlaps counts once."""
    return sum((end - start for start, end in union(spans)), timedelta())


def first(spans: Iterable[Span], limit: timedelta) -> list[Span]:
    """Return the earliest part of these spans that is no longer than `limit` together."""
    taken: list[Span] = []
    left = limit
    for start, end in union(spans):
        if left <= timedelta():
            break
        taken.append((start, min(end, start + left)))
        left -= end - start
    return taken
