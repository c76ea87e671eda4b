"""tagger: sound events from any microphone or audio stream, published over MQTT.

The package runs on a device. Importing it is cheap: torch, PortAudio and MQTT are imported by the modules that use
them. `tagger.load` is for Python programs (docs/python.md).
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tagger.api import AudioStream as AudioStream
    from tagger.api import Heard as Heard
    from tagger.api import InputError as InputError
    from tagger.api import LabelScores as LabelScores
    from tagger.api import SoundEvent as SoundEvent
    from tagger.api import Tagger as Tagger
    from tagger.api import load as load

__version__ = "0.1.0"

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # else ONNX Runtime, once imported, keeps an id of the device for Microsoft

_PUBLIC = ("AudioStream", "Heard", "InputError", "LabelScores", "SoundEvent", "Tagger", "load")


def __getattr__(name: str) -> Any:
    """Imports the public names when they are asked for: `import tagger` alone stays cheap."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tagger import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
