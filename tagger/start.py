"""Settings to a running daemon: opens model, sources and sinks, says what it does, and runs it."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import click

from tagger import checkpoint, policy, stats, store
from tagger.classifier import Classifier
from tagger.clipfolder import ClipFolder
from tagger.clips import ClipSaver
from tagger.control import Control
from tagger.errors import TaggerError
from tagger.events import Stream
from tagger.listen import Daemon, Listener, Task
from tagger.mqtt.topics import NOT_SOURCES
from tagger.opening import Opening, Sinks
from tagger.reload import Reload
from tagger.settings import ClipSettings, ListenSettings, MqttSettings, check_window, home, unique_slugs
from tagger.sources import Source, open_source
from tagger.state import State
from tagger.stop import Stop

log = logging.getLogger(__name__)

_WRITE_SECONDS = 10.0
"""So long may the last clips take to be written."""
_SUBSCRIBE_SECONDS = 5.0
"""So long is waited for `--watch` to see the first event too. A broker that comes later is watched from then on."""
_ALIVE_SECONDS = 5.0
"""So exactly is it known afterwards when a daemon died."""
