"""paho's client, with a bound on what it receives; and one that receives thousands of messages a second."""

from collections.abc import Callable, Sequence

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from tagger import unforeseen

MAX_RECEIVED_BYTES = 100_000
"""Largest packet that is taken from the broker, unless a receiver of longer messages says otherwise: above the longest
topic (65,535 bytes) and the longest request. MQTT 5 tells the broker. With 3.1.1 the rest of a larger packet is read
and not kept."""
_READ_BYTES = 65_536
"""Largest number of bytes read from the socket at once."""
_PUBLISH, _PUBACK = 0x30, 0x40
"""First byte of these packets, without the flags of its lower half."""
_FLAG_BITS, _QOS_1 = 0x06, 0x02


class BoundedClient(paho.Client):
    """Keeps no more than the first `max_received_bytes` of a packet, however large it is. A receiver sees a message
    that was cut off, and the broker its acknowledgement. A packet that cannot be read ends the connection, and no more.
    """

    max_received_bytes = MAX_RECEIVED_BYTES

    def _packet_handle(self) -> MQTTErrorCode:
        try:
            return super()._packet_handle()
        except OSError:
            raise
        except Exception as error:  # whatever paho makes of a damaged packet
            unforeseen.tell("MQTT: a packet from the broker", error)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def _sock_recv(self, bufsize: int) -> bytes:
        del self._in_packet["packet"][self.max_received_bytes :]
        return super()._sock_recv(min(bufsize, _READ_BYTES))


class HoldingClient(BoundedClient):
    """A client of MQTT 5 whose messages count as received when `acknowledge` was called.

    It reads what has arrived at once and takes whole messages of QoS 1 from there; paho itself makes three calls of the
    system and several objects for each, which is nine tenths of the work. All other packets are paho's.
    """

    def __init__(self, client_id: str, on_held: Callable[[bytes, bytes, int], None]) -> None:
        """
        Args:
            on_held: called in paho's thread with topic, payload and number of a message.
        """
        super().__init__(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTProtocolVersion.MQTTv5)
        self.manual_ack_set(True)
        self.on_message = lambda client, data, message: on_held(message._topic, bytes(message.payload), message.mid)
        self._on_held = on_held
        self._arrived, self._at = b"", 0
        """What was read from the socket, and how far it was taken."""
        self._arrived_by: object = None
        """The socket that it was read from."""

    def acknowledge(self, numbers: Sequence[int]) -> None:
        """Tells the broker, all at once, that these messages of the present connection were received."""
        if numbers:
            packets = b"".join(bytes((_PUBACK, 2, number >> 8, number & 0xFF)) for number in numbers)
            self._packet_queue(_PUBACK, packets, 0, 0)

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        while True:
            while self._take_publish():
                pass
            code = super().loop_read(max_packets)
            if code or self._sock is not self._arrived_by or self._at == len(self._arrived):
                return code

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._sock is not self._arrived_by:
            self._arrived, self._at, self._arrived_by = b"", 0, self._sock
        if self._at == len(self._arrived):
            self._arrived, self._at = super()._sock_recv(_READ_BYTES), 0
        found = self._arrived[self._at : self._at + bufsize]
        self._at += len(found)
        return found

    def _take_publish(self) -> bool:
        """Hands over the next message, if all of it is there, and it is of QoS 1. False: the rest is for paho."""
        data, at = self._arrived, self._at
        if self._in_packet["command"] or self._sock is not self._arrived_by or len(data) - at < 2:
            return False
        if data[at] & (0xF0 | _FLAG_BITS) != _PUBLISH | _QOS_1:
            return False
        try:
            length, begin = _number(data, at + 1)
            end = begin + length
            topic_end = begin + 2 + int.from_bytes(data[begin : begin + 2])
            properties, payload = _number(data, topic_end + 2)
        except IndexError:
            return False
        payload += properties
        if end > len(data) or payload > end or length > self.max_received_bytes:
            return False
        self._at = end
        self._on_held(data[begin + 2 : topic_end], data[payload:end], int.from_bytes(data[topic_end : topic_end + 2]))
        return True


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of one to four bytes, seven bits in each, and where the next begins.

    Raises:
        IndexError: it is not complete, or has more than four bytes.
    """
    value = 0
    for place in range(4):
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise IndexError
