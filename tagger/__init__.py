"""tagger: sound events from any microphone or audio stream, published over MQTT.

The package runs on a device. Importing it is cheap: torch, PortAudio and MQTT are imported by the modules that use
them.
"""

__version__ = "0.1.0"
