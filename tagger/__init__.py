"""tagger: sound events from any microphone or audio stream, published over MQTT.

What runs on a device. Importing the package costs nothing heavy: torch, PortAudio and MQTT are imported by the
modules that use them.
"""

__version__ = "0.1.0"
