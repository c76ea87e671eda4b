"""A camera: GStreamer's RTSP server. Skipped where it is not installed."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tagger.condition import SourceError
from tagger.sources import open_source
from tagger.sources.network.readers import READERS
from tests.builders import daemon
from tests.fakes import RATE_HZ
from tests.programs import until
from tests.rtsp import RtspServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def camera() -> Iterator[RtspServer]:
    if not RtspServer.is_installed():
        pytest.skip("GStreamer's RTSP server is not installed (apt install gir1.2-gst-rtsp-server-1.0)")
    server = RtspServer()
    yield server
    server.kill()
    READERS.stop()


def test_the_sound_of_a_camera_is_asked_for_alone(camera: RtspServer) -> None:
    source = open_source(f"rtsp://me:secret@127.0.0.1:{camera.port}/camera", RATE_HZ)
    heard = 0
    with closing(source.blocks()) as blocks:  # type: ignore[type-var]
        for block in blocks:
            heard += len(block.samples)
            if heard > RATE_HZ:
                break
    assert source.description == f"rtsp://127.0.0.1:{camera.port}, pcm_s16be, 16000 Hz, 1 channel"
    assert not source.about.has_pictures  # type: ignore[attr-defined]


def test_a_path_that_a_camera_does_not_have_is_told(camera: RtspServer) -> None:
    with pytest.raises(SourceError, match="no such stream") as caught:
        list(open_source(f"rtsp://127.0.0.1:{camera.port}/nothing", RATE_HZ).blocks())
    assert caught.value.reason == "not_found"


def test_a_camera_that_is_killed_and_started_again_is_heard_again(camera: RtspServer) -> None:
    with daemon(open_source(f"rtsp://127.0.0.1:{camera.port}/live", RATE_HZ)) as sink:
        until(lambda: sink.of("report"), "it is heard")
        camera.kill()
        until(lambda: len(sink.of("offline")) > 0, "it is said to be gone")
        camera.start()
        before = len(sink.of("report"))
        until(lambda: len(sink.of("report")) > before, "it is heard again")
