"""Streams to workers: by capacity, with the fewest moves."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tagger.fleet.assignment import Place, assign, is_uneven

names = st.sampled_from([f"node{i}" for i in range(8)])
fleets = st.dictionaries(names, st.tuples(st.integers(1, 60), st.booleans()), min_size=1).map(
    lambda found: [Place(name, capacity, is_open) for name, (capacity, is_open) in found.items()]
)
streams_of = st.integers(0, 80).map(lambda count: [f"mic{i}" for i in range(count)])
befores = st.dictionaries(st.integers(0, 90).map("mic{}".format), names)


@given(streams_of, fleets, befores, st.booleans())
def test_every_stream_goes_to_a_worker_that_is_open(
    streams: list[str], places: list[Place], before: dict[str, str], even: bool
) -> None:
    found = assign(streams, places, before, even)
    takers = {place.name for place in places if place.is_open}
    assert set(found) == (set(streams) if takers else set())
    assert set(found.values()) <= takers
    assert found == assign(streams[::-1], places[::-1], before, even)
    assert assign(streams, places, found, even) == found


@given(streams_of, fleets, befores)
def test_even_shares_are_within_one_stream_of_the_capacities_with_the_fewest_moves(
    streams: list[str], places: list[Place], before: dict[str, str]
) -> None:
    takers = [place for place in places if place.is_open]
    found = assign(streams, places, before, even=True)
    loads, total = Counter(found.values()), sum(place.capacity for place in takers)
    for place in takers:
        assert abs(loads[place.name] - len(streams) * place.capacity / total) < 1
    stayed = [stream for stream in found if before.get(stream) == found[stream]]
    earlier = Counter(before[stream] for stream in streams if before.get(stream) in {place.name for place in takers})
    assert len(stayed) == sum(min(earlier[place.name], loads[place.name]) for place in takers)


@given(streams_of, fleets, befores)
def test_a_healthy_stream_moves_only_from_a_worker_that_carries_too_much_to_one_that_has_room(
    streams: list[str], places: list[Place], before: dict[str, str]
) -> None:
    found = assign(streams, places, before)
    takers = {place.name: place for place in places if place.is_open}
    loads = Counter(found.values())
    earlier = Counter(before[stream] for stream in streams if before.get(stream) in takers)
    for stream, to in found.items():
        was = before.get(stream)
        if was in takers and was != to:
            assert earlier[was] > takers[was].capacity
            assert loads[to] <= takers[to].capacity or len(streams) > sum(p.capacity for p in takers.values())


def test_only_the_streams_of_a_dead_worker_move() -> None:
    streams = [f"mic{i}" for i in range(1_000)]
    places = [Place(f"node{i}", 400) for i in range(4)]
    before = assign(streams, places, {})
    assert set(Counter(before.values()).values()) == {250}
    after = assign(streams, places[1:], before)
    assert all(after[stream] == owner for stream, owner in before.items() if owner != "node0")
    assert set(Counter(after.values()).values()) <= {333, 334}


def test_a_new_worker_is_filled_by_the_fewest_moves() -> None:
    streams = [f"mic{i}" for i in range(1_000)]
    places = [Place(f"node{i}", 400) for i in range(5)]
    before = assign(streams, places[:4], {})
    assert assign(streams, places, before) == before
    assert is_uneven(places, before)
    after = assign(streams, places, before, even=True)
    moved = {stream: owner for stream, owner in after.items() if owner != before[stream]}
    assert len(moved) == 200
    assert set(moved.values()) == {"node4"}
    assert not is_uneven(places, after)


def test_a_drained_worker_gets_nothing_and_keeps_nothing() -> None:
    streams = [f"mic{i}" for i in range(30)]
    places = [Place("a", 20), Place("b", 20)]
    before = assign(streams, places, {})
    after = assign(streams, [Place("a", 20, is_open=False), places[1]], before)
    assert set(after.values()) == {"b"}


def test_a_worker_that_has_not_been_heard_of_keeps_what_it_has_and_gets_nothing() -> None:
    streams = [f"mic{i}" for i in range(30)]
    before = assign(streams[:20], [Place("a", 20), Place("b", 20)], {})
    silent = [Place("a", 20, takes=False), Place("b", 20)]
    after = assign(streams, silent, before)
    assert Counter(after.values()) == {"a": 10, "b": 20}
    assert all(after[stream] == owner for stream, owner in before.items())
    assert assign(streams, [Place("a", 20, takes=False)], before) == {
        stream: owner for stream, owner in before.items() if owner == "a"
    }


def test_too_many_streams_overload_all_workers_alike() -> None:
    found = assign([f"mic{i}" for i in range(90)], [Place("big", 20), Place("small", 10)], {})
    assert Counter(found.values()) == {"big": 60, "small": 30}
