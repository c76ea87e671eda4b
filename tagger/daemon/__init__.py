"""The daemon: settings to a running process, its parts, what it can be asked, and what survives a restart.

The loop itself is `tagger.listen`. MQTT is in `tagger.mqtt`.
"""
