"""In how many recordings of a folder speech is heard: what `--without-speech` would leave out.

    python bench/speech.py FOLDER [FOLDER ...] [--model esc50] [--seconds 15]
    python bench/speech.py FOLDER ... --silero silero_vad.onnx                      # beside another detector
    python bench/speech.py FOLDER ... --silero silero_vad.onnx --over FOLDER --snr -10

`--silero` is the model of the package silero-vad (MIT). A window has speech for it if 0.25 s of its pieces of 32 ms in
turn have a probability of `--probability`, its own default 0.5. `either` counts what one of the two hears. With
`--over` each recording is mixed with one of another folder; `--snr` is by how much it is louder than that, decibels.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort

from tagger.audio.decode import decode_blocks
from tagger.audio.resample import Resampler
from tagger.clips.speech import LEAST_SPEECH
from tagger.engine.runtime import open_models
from tagger.errors import AudioError
from tagger.events import Samples, Window

SILERO_HZ, _PIECE, _CONTEXT = 16_000, 512, 64
_LEAST_PIECES = 8
"""Pieces in turn that are speech: 0.25 s."""


class Silero:
    """Silero's voice activity detector."""

    def __init__(self, path: Path, least: float) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session, self._least = ort.InferenceSession(str(path), options, ["CPUExecutionProvider"]), least

    def spoken(self, sound: Samples, rate_hz: int) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        """Whether each piece of 32 ms is speech."""
        resampler = Resampler(rate_hz, SILERO_HZ)
        wave = np.concatenate([resampler.feed(sound), resampler.flush()])
        pieces = wave[: len(wave) // _PIECE * _PIECE].reshape(-1, _PIECE)
        state, before, found = np.zeros((2, 1, 128), np.float32), np.zeros(_CONTEXT, np.float32), []
        for piece in pieces:
            given = {"input": np.concatenate([before, piece])[None], "state": state, "sr": np.array(SILERO_HZ)}
            probability, state = self._session.run(None, given)
            found.append(float(probability[0, 0]) >= self._least)
            before = piece[-_CONTEXT:]
        return np.array(found, bool)


def sounds(folder: Path, rate_hz: int, seconds: float) -> Iterator[Samples]:
    """The first seconds of each recording."""
    for path in sorted(each for each in folder.rglob("*") if each.suffix in (".ogg", ".wav", ".flac", ".mp3")):
        blocks, length = list[Samples](), 0
        try:
            for block in decode_blocks(path, rate_hz, warn=lambda line: None):
                blocks.append(block.samples)
                length += len(block.samples)
                if length >= seconds * rate_hz:
                    break
        except AudioError:  # what came before the damage is good
            pass
        if length:
            yield np.concatenate(blocks)[: round(seconds * rate_hz)]


def mixed(sound: Samples, other: Samples, snr_db: float) -> Samples:
    """A sound over another, whose level is that of the first less `snr_db`."""
    other = np.resize(other, len(sound))
    own, others = (float(np.sqrt(np.mean(np.square(each)))) for each in (sound, other))
    wave = sound + other * (own / max(others, 1e-9) * 10 ** (-snr_db / 20))
    return (wave / max(1.0, float(np.abs(wave).max()))).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--model", default="esc50")
    parser.add_argument("--seconds", type=float, default=15.0, help="Windows that begin later are left out.")
    parser.add_argument("--least", type=float, default=LEAST_SPEECH, help="Score of speech that counts.")
    parser.add_argument("--silero", type=Path, metavar="FILE")
    parser.add_argument("--probability", type=float, default=0.5)
    parser.add_argument("--over", type=Path, metavar="FOLDER")
    parser.add_argument("--snr", type=float, default=0.0, metavar="DB")
    given = parser.parse_args()
    classifier = open_models((given.model,), "auto", "cpu", None)
    silero = None if given.silero is None else Silero(given.silero, given.probability)
    rate_hz, window_s = classifier.info.mel.sample_rate_hz, classifier.info.window_seconds
    longest_s = given.seconds + window_s
    others = list(sounds(given.over, rate_hz, longest_s)) if given.over is not None else []
    names = ["network", *(["silero", "either"] if silero is not None else [])]
    columns = [f"{name:>8} {'windows':>8}" for name in names]
    print(f"{'folder':<24} {'recordings':>10} {'windows':>8} {' '.join(columns)}")
    for folder in given.folders:
        recordings, windows, heard = 0, 0, Counter[str]()
        size = round(window_s * rate_hz)
        for number, recording in enumerate(sounds(folder, rate_hz, longest_s)):
            heard_one = mixed(recording, others[number % len(others)], given.snr) if others else recording
            sound = np.pad(heard_one, (0, max(0, size - len(heard_one))))
            starts = range(0, len(sound) - size + 1, rate_hz)
            cut = [Window(sound[at : at + size], at, size, at / rate_hz) for at in starts]
            by_network = [(classifier.classify([each])[0].speech or 0.0) >= given.least for each in cut]
            found = {"network": by_network}
            if silero is not None:
                spoken = silero.spoken(sound, rate_hz)
                pieces = [
                    spoken[at * SILERO_HZ // rate_hz // _PIECE :][: round(window_s * SILERO_HZ / _PIECE)]
                    for at in starts
                ]
                found["silero"] = [_has_run(each) for each in pieces]
                found["either"] = [a or b for a, b in zip(by_network, found["silero"], strict=True)]
            recordings, windows = recordings + 1, windows + len(cut)
            for name, each in found.items():
                heard[name] += any(each)
                heard[f"{name} windows"] += sum(each)
        counts = [f"{heard[name]:>8} {heard[f'{name} windows']:>8}" for name in names]
        print(f"{folder.name:<24} {recordings:>10} {windows:>8} {' '.join(counts)}", flush=True)


def _has_run(spoken: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> bool:
    """Whether enough pieces in turn are speech."""
    return any(each and len(list(run)) >= _LEAST_PIECES for each, run in itertools.groupby(spoken))


if __name__ == "__main__":
    main()
