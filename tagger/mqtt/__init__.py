"""MQTT: the sink, and how its messages reach the broker; requests; the discovery message for Home Assistant.

From the top: sink; delivery, backlog and outbox; connection, message, tls and reasons. Only `connection` imports paho.
Other sinks are in `tagger.sinks`. `tagger.daemon` carries out requests.
"""
