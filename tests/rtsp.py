"""GStreamer's RTSP server, run by the system's Python.

apt install python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-good
"""

import subprocess

from tests.programs import can_connect, free_port, until

RTSP = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer, GLib
Gst.init(None)
raw = "audio/x-raw,rate=16000,channels=1"
sound = "audiotestsrc is-live=true wave=pink-noise ! " + raw + " ! audioconvert ! queue ! rtpL16pay name=pay%d"
size = "video/x-raw,format=I420,width=320,height=240,framerate=5/1"
pictures = "videotestsrc is-live=true ! " + size + " ! jpegenc ! queue ! rtpjpegpay name=pay0"
server = GstRtspServer.RTSPServer(); server.set_service(sys.argv[1])
paths = {"/live%d" % number: "( %s )" % (sound % 0) for number in range(int(sys.argv[2]))}
paths |= {"/live": "( %s )" % (sound % 0), "/camera": "( %s %s )" % (pictures, sound % 1)}
for path, launch in paths.items():
    factory = GstRtspServer.RTSPMediaFactory(); factory.set_launch(launch); factory.set_shared(True)
    server.get_mount_points().add_factory(path, factory)
server.attach(None); GLib.MainLoop().run()
"""


class RtspServer:
    """GStreamer's, in a process."""

    def __init__(self, port: int = 0, cameras: int = 0) -> None:
        """
        Args:
            cameras: paths `/live0`, `/live1` ... besides `/live` and `/camera`.
        """
        self.port, self._cameras = port or free_port(), cameras
        self.start()

    @staticmethod
    def is_installed() -> bool:
        """Whether the system's Python has it, with the elements that are used."""
        check = ["/usr/bin/python3", "-c", RTSP.partition("raw =")[0] + "GstRtspServer.RTSPServer()"]
        try:
            return not subprocess.run(check, capture_output=True, check=False).returncode
        except OSError:
            return False

    def start(self) -> None:
        command = ["/usr/bin/python3", "-c", RTSP, str(self.port), str(self._cameras)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: can_connect(self.port), "the RTSP server answers")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
