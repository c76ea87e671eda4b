"""Audio files of many formats, made here. Only what FFmpeg and libsndfile encode themselves."""

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

from tagger.events import Samples

# Name of the file: codec of FFmpeg, its rate; or the arguments of libsndfile.
BY_FFMPEG = {
    "tone.mp3": ("libmp3lame", 44_100),
    "tone.m4a": ("aac", 44_100),
    "tone.aac": ("aac", 44_100),
    "tone.ac3": ("ac3", 48_000),
    "tone.eac3": ("eac3", 48_000),
    "tone.mkv": ("aac", 44_100),
    "tone.webm": ("libopus", 48_000),
    "tone.mp4": ("aac", 44_100),
    "tone.wma": ("wmav2", 44_100),
    "tone.ts": ("mp2", 48_000),
    "tone.avi": ("mp2", 44_100),
    "tone.tta": ("tta", 44_100),
    "tone.wv": ("wavpack", 44_100),
    "alaw.mov": ("pcm_alaw", 8_000),
}
BY_LIBSNDFILE: dict[str, dict[str, str]] = {
    "tone.wav": {"subtype": "PCM_16"},
    "float.wav": {"subtype": "FLOAT"},
    "adpcm.wav": {"subtype": "IMA_ADPCM"},
    "tone.flac": {},
    "vorbis.ogg": {},
    "opus.opus": {"format": "OGG", "subtype": "OPUS"},
    "tone.aiff": {},
    "tone.au": {},
    "tone.w64": {},
    "tone.caf": {},
}
FORMATS = (*BY_FFMPEG, *BY_LIBSNDFILE)


def tone(seconds: float, rate_hz: int, pitch_hz: float = 500.0) -> Samples:
    """[samples], half of full scale."""
    return (0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def write_tone(path: Path, seconds: float = 1.0) -> Path:
    """A tone in the format that the name has in the tables above."""
    if path.name in BY_FFMPEG:
        codec, rate_hz = BY_FFMPEG[path.name]
        write_av(path, codec, tone(seconds, rate_hz), rate_hz)
    else:
        form = BY_LIBSNDFILE[path.name]
        soundfile.write(path, tone(seconds, 48_000), 48_000, **form)
    return path


def write_av(
    path: Path,
    codec: str,
    samples: Samples,
    rate_hz: int,
    *,
    form: str | None = None,
    stereo: bool = False,
    layout: str | None = None,
    starts_s: Sequence[float] = (0.0,),
    picture_s: float = 0.0,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Encodes with FFmpeg.

    Args:
        samples: [N], mono; both channels get them if `stereo`.
        starts_s: time stamps at which equal parts of the samples begin, seconds.
        picture_s: length of a grey picture beside the sound; 0: none.
        options: of the container.
    """
    with av.open(str(path), "w", format=form, options=options or {}) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=rate_hz, layout=layout or ("stereo" if stereo else "mono"))
        stream.bit_rate = 64_000
        if codec_options:
            stream.options = codec_options
        video = None
        if picture_s:
            video = container.add_stream("mpeg4", rate=10)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
        stream.codec_context.open(strict=False)
        size = stream.codec_context.frame_size or 1024
        to_format = av.AudioResampler(stream.codec_context.format, stream.codec_context.layout, rate_hz)
        for number in range(round(10 * picture_s)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 128, np.uint8), format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        for start_s, part in zip(starts_s, np.array_split(samples, len(starts_s)), strict=True):
            for at in range(0, len(part), size):
                piece = part[at : at + size]
                frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
                frame.sample_rate = rate_hz
                for ready in to_format.resample(frame):
                    ready.pts = round(start_s * rate_hz) + at
                    ready.time_base = Fraction(1, rate_hz)
                    container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
        if video is not None:
            container.mux(video.encode(None))
    return path


def wav_bytes(samples: Samples, rate_hz: int) -> bytes:
    """A WAV of 16 bits."""
    content = io.BytesIO()
    soundfile.write(content, samples, rate_hz, subtype="PCM_16", format="WAV")
    return content.getvalue()
