"""A subscriber as a user would write it who has read the README but none of our code.

    python follower.py HOST PORT [PREFIX]

Follows every node, through outages of the broker. For each line on standard input it prints what it knows, as one line
of JSON; at the end of standard input it prints it once more, and ends.
"""

import asyncio
import json
import re
import sys
from contextlib import suppress
from typing import Any

import aiomqtt


class Knowledge:
    """Messages received so far."""

    def __init__(self) -> None:
        self.subscriptions = 0
        self.nodes: dict[str, str] = {}
        self.sources: dict[str, dict[str, str]] = {}
        """NODE/SOURCE -> status, detail, enabled."""
        self.states: dict[str, dict[str, str]] = {}
        """NODE/SOURCE -> state of each label."""
        self.events: list[dict[str, Any]] = []
        self.repeated = 0

    def hear(self, levels: list[str], payload: str) -> None:
        match levels:
            case [node, "status"]:
                keep(self.nodes, node, payload)
            case [node, source, "status"]:
                keep(self.sources.setdefault(f"{node}/{source}", {}), "status", payload)
            case [node, source, "status", "detail"]:
                keep(self.sources.setdefault(f"{node}/{source}", {}), "detail", payload)
            case [node, source, "enabled"]:
                keep(self.sources.setdefault(f"{node}/{source}", {}), "enabled", payload)
            case [node, source, label, "state"]:
                keep(self.states.setdefault(f"{node}/{source}", {}), label, payload)
            case [_, _, "event"]:
                self.hear_event(json.loads(payload))

    def hear_event(self, event: dict[str, Any]) -> None:
        if any((known["id"], known["type"]) == (event["id"], event["type"]) for known in self.events):
            self.repeated += 1  # the broker died between passing it on and acknowledging it
        else:
            self.events.append(event)

    def on(self) -> dict[str, list[str]]:
        """NODE/SOURCE -> labels, as in topics, of the events that have begun and not ended."""
        ended = {event["id"] for event in self.events if event["type"] == "end"}
        found: dict[str, list[str]] = {}
        for event in self.events:
            if event["type"] == "begin" and event["id"] not in ended:
                label = re.sub("[^a-z0-9]+", "_", event["label"].lower())
                found.setdefault(f"{event['node']}/{event['source']}", []).append(label)
        return found

    def told(self) -> str:
        return json.dumps({**vars(self), "on": self.on()})


def keep(where: dict[str, str], key: str, payload: str) -> None:
    """Keeps a retained message; an empty one clears its topic."""
    if payload:
        where[key] = payload
    else:
        where.pop(key, None)


async def follow(host: str, port: int, prefix: str, known: Knowledge) -> None:
    while True:
        with suppress(aiomqtt.MqttError):
            async with aiomqtt.Client(host, port) as client:
                await client.subscribe(f"{prefix}/#", qos=1)
                known.subscriptions += 1
                async for message in client.messages:
                    levels = str(message.topic).removeprefix(f"{prefix}/").split("/")
                    known.hear(levels, bytes(message.payload).decode())
        await asyncio.sleep(0.1)


async def main(host: str, port: str, prefix: str = "tagger") -> None:
    known = Knowledge()
    following = asyncio.create_task(follow(host, int(port), prefix, known))
    while await asyncio.to_thread(sys.stdin.readline):
        print(known.told(), flush=True)
    following.cancel()
    with suppress(asyncio.CancelledError):
        await following
    print(known.told(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
