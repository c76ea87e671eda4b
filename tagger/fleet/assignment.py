"""Which worker has which stream: shares in proportion to capacity, with the fewest moves.

The assignment is made from the one before, so a stream moves only if it must: its worker is gone, is drained or
carries more than it can. Evening out, which moves healthy streams as well, is a separate wish of the caller. It moves
the least number that brings every worker to its share: the sum of what each has above it.

Ties are broken by rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998):
the same streams go to the same workers whatever the order in which they are named.
"""

import hashlib
import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A worker as the assignment sees it."""

    name: str
    capacity: float
    """Number of streams that it can carry; above 0."""
    is_open: bool = True
    """Whether it keeps its streams. False: it is drained, and they go elsewhere."""
    takes: bool = True
    """Whether it takes more. False: it keeps what it has, for it has not been heard of for a moment."""


def assign(
    streams: Iterable[str], places: Sequence[Place], owners: Mapping[str, str], even: bool = False
) -> dict[str, str]:
    """A worker for each stream. Where all workers are full, each is overloaded to the same degree.

    Args:
        owners: the assignment before: stream -> worker. Streams and workers that are no more may be in it.
        even: whether to move healthy streams as well, so that each worker has its share.

    Returns:
        stream -> worker. Streams that nobody can take are not in it.
    """
    open_places = {place.name: place for place in places if place.is_open}
    if not any(place.takes for place in open_places.values()):
        return {stream: owners[stream] for stream in streams if owners.get(stream) in open_places}
    wanted = sorted(set(streams))
    assigned = {stream: owners[stream] for stream in wanted if owners.get(stream) in open_places}
    limits = _shares(len(wanted), open_places, assigned) if even else _limits(len(wanted), open_places, assigned)
    for name, surplus in _surplus(assigned, limits).items():
        own = [stream for stream, owner in assigned.items() if owner == name]
        for stream in sorted(own, key=lambda stream: _weight(stream, name))[:surplus]:
            del assigned[stream]
    _place([stream for stream in wanted if stream not in assigned], open_places, assigned, limits if even else {})
    return assigned


def is_uneven(places: Sequence[Place], owners: Mapping[str, str], tolerance: float = 0.1) -> bool:
    """Whether a worker has more or fewer streams than its share, by more than this part of the share and one stream."""
    open_places = {place.name: place for place in places if place.is_open}
    if not open_places:
        return False
    loads, total = Counter(owners.values()), sum(place.capacity for place in open_places.values())
    shares = {name: len(owners) * place.capacity / total for name, place in open_places.items()}
    return any(abs(loads[name] - share) > max(1.0, tolerance * share) for name, share in shares.items())


def _shares(count: int, places: Mapping[str, Place], assigned: Mapping[str, str]) -> dict[str, int]:
    """Number of streams of each worker, in proportion to its capacity, rounded so that the fewest must move."""
    total, loads = sum(place.capacity for place in places.values()), Counter(assigned.values())
    exact = {name: count * place.capacity / total for name, place in places.items()}
    shares = {name: math.floor(share) for name, share in exact.items()}
    # Who has more than the rounded share already keeps one more; then who lost most by rounding.
    order = sorted(places, key=lambda name: (loads[name] <= shares[name], shares[name] - exact[name], name))
    for name in order[: count - sum(shares.values())]:
        shares[name] += 1
    return shares


def _limits(count: int, places: Mapping[str, Place], assigned: Mapping[str, str]) -> dict[str, int]:
    """Largest number of streams that each worker keeps: what it can carry, and more if the others have no room."""
    loads = Counter(assigned.values())
    carried = {name: math.floor(place.capacity) for name, place in places.items()}
    if count >= sum(carried.values()):  # somebody must be overloaded: all alike
        return {name: max(share, carried[name]) for name, share in _shares(count, places, assigned).items()}
    waiting = count - len(assigned)  # those come first: they are heard by nobody
    takers = [name for name, place in places.items() if place.takes]
    room = max(0, sum(max(0, carried[name] - loads[name]) for name in takers) - waiting)
    limits = {}
    for name in sorted(places):
        moved = min(max(0, loads[name] - carried[name]), room)
        room -= moved
        limits[name] = max(carried[name], loads[name] - moved)
    return limits


def _surplus(assigned: Mapping[str, str], limits: Mapping[str, int]) -> dict[str, int]:
    loads = Counter(assigned.values())
    return {name: loads[name] - limit for name, limit in limits.items() if loads[name] > limit}


def _place(
    streams: Sequence[str], places: Mapping[str, Place], assigned: dict[str, str], limits: Mapping[str, int]
) -> None:
    """Gives each stream to the worker that is least used, up to its limit where it has one."""
    loads = Counter(assigned.values())
    tied = defaultdict[float, list[str]](list)
    """Use of workers with one stream more -> the workers."""
    uses: list[float] = []

    def offer(name: str) -> None:
        if not places[name].takes or (name in limits and loads[name] >= limits[name]):
            return
        use = (loads[name] + 1) / places[name].capacity
        if not tied[use]:
            heapq.heappush(uses, use)
        tied[use].append(name)

    for name in sorted(places):
        offer(name)
    for stream in streams if uses else ():
        use = uses[0]
        name = max(tied[use], key=lambda name: _weight(stream, name))
        tied[use].remove(name)
        if not tied[use]:
            heapq.heappop(uses)
        assigned[stream] = name
        loads[name] += 1
        offer(name)


def _weight(stream: str, place: str) -> int:
    """How much a stream belongs to a worker: a hash of both."""
    return int.from_bytes(hashlib.blake2b(f"{stream}\n{place}".encode(), digest_size=8).digest())
