"""The client that receives thousands of messages a second takes from the socket what paho would."""

import socket
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.enums import MQTTErrorCode

from tagger.mqtt.client import MAX_RECEIVED_BYTES, HoldingClient

PINGRESP = b"\xd0\x00"


def number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def publish(topic: bytes, payload: bytes, mid: int, flags: int = 2, properties: bytes = b"") -> bytes:
    body = len(topic).to_bytes(2) + topic + (mid.to_bytes(2) if flags & 6 else b"")
    body += number(len(properties)) + properties + payload
    return bytes([0x30 | flags]) + number(len(body)) + body


def received(pieces: Sequence[bytes]) -> tuple[list[tuple[bytes, bytes, int]], HoldingClient, MQTTErrorCode]:
    """What a client hands over if a socket brings these pieces, one after the other."""
    found: list[tuple[bytes, bytes, int]] = []
    client = HoldingClient("x", lambda topic, payload, mid: found.append((topic, payload, mid)))
    ours, theirs = socket.socketpair()
    code = MQTTErrorCode.MQTT_ERR_SUCCESS
    with closing(ours), closing(theirs):
        ours.setblocking(False)
        client._sock = ours
        for piece in pieces:
            for at in range(0, len(piece), 16_384):  # no more than a socket holds
                theirs.sendall(piece[at : at + 16_384])
                code = client.loop_read()
        while not code:
            before = len(found)
            code = client.loop_read()
            if len(found) == before:
                break
        client._sock = None
    return found, client, code


MESSAGES = st.tuples(st.binary(min_size=1, max_size=5), st.binary(max_size=300), st.sampled_from([0, 2, 3, 10]))


@given(st.lists(MESSAGES, max_size=8), st.lists(st.integers(0, 2_000), max_size=6))
def test_messages_are_the_same_however_they_were_cut(messages: list[tuple[bytes, bytes, int]], cuts: list[int]) -> None:
    wanted = [(topic, payload, i + 1 if flags & 6 else 0) for i, (topic, payload, flags) in enumerate(messages)]
    sent = b"".join(
        publish(topic, payload, i + 1, flags, b"\x01\x01" * (i % 2)) + PINGRESP * (i % 3)
        for i, (topic, payload, flags) in enumerate(messages)
    )
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    found, _, code = received([sent[begin:end] for begin, end in pairwise(edges) if begin < end])
    assert not code
    assert found == wanted


def test_a_packet_that_is_too_large_is_cut_off() -> None:
    found, _, _ = received([publish(b"t", b"x" * 60_000, 1), publish(b"t", b"y" * 150_000, 7), publish(b"t", b"z", 9)])
    assert [mid for _, _, mid in found] == [1, 7, 9]
    assert len(found[0][1]) == 60_000
    assert len(found[1][1]) <= MAX_RECEIVED_BYTES + 65_536
    assert found[2][1] == b"z"


@pytest.mark.parametrize("packet", [b"\x32\x03\x00\x09t", b"\x32\xff\xff\xff\xff\xff", b"\x36\x05\x00\x01t\x00\x01"])
def test_a_wrong_packet_breaks_the_connection_as_it_does_in_paho(packet: bytes) -> None:
    found, _, code = received([publish(b"t", b"first", 1) + packet])
    assert [payload for _, payload, _ in found] == [b"first"]
    assert code


def test_messages_are_acknowledged_together() -> None:
    _, client, _ = received([])
    client.acknowledge([])
    client.acknowledge([1, 258, 65_535])
    assert [bytes(each["packet"]) for each in client._out_packet] == [
        b"\x40\x02\x00\x01\x40\x02\x01\x02\x40\x02\xff\xff"
    ]


def test_what_a_broken_connection_left_is_not_taken_for_the_next_one_s() -> None:
    whole = publish(b"t", b"payload", 3)
    found, client, _ = received([whole[:-3]])
    assert found == []
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        ours.setblocking(False)
        client._in_packet |= {"command": 0, "have_remaining": 0, "remaining_count": [], "remaining_mult": 1}
        client._in_packet |= {"remaining_length": 0, "packet": bytearray(), "to_process": 0}
        client._sock = ours
        theirs.sendall(whole)
        client.loop_read()
        client._sock = None
    assert found == [(b"t", b"payload", 3)]
