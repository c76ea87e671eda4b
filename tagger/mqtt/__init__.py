"""MQTT: names of topics, the connection, what waits for it, requests, and what Home Assistant is told."""
