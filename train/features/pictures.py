"""Pictures of spectrograms and cepstra."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tagger.features.config import MelConfig, MfccConfig
from tagger.figures import save, shortened
from tagger.printable import number_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_INCHES = (11.0, 4.5)
_DOTS_PER_INCH = 120
_MOST_COLUMNS = 2_000
"""Most columns of a picture; more frames are averaged."""
_TICKS_HZ = (125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
_TITLE_LETTERS = 60
"""Longest title, letters."""


def write(path: Path, values: NDArray[np.float32], config: MelConfig, title: str) -> None:
    """Writes a PNG of features over time, with a scale of their colours.

    Args:
        values: [bands, frames], as `tagger.features.logmel.front_end(config)` makes them; may be memory-mapped.

    Raises:
        ImportError: matplotlib is not installed.
    """
    changes = {"axes.titlesize": 11, "axes.spines.right": True}
    save(path, lambda: _figure(values, config, title), _DOTS_PER_INCH, changes)


def _figure(values: NDArray[np.float32], config: MelConfig, title: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(_INCHES, layout="constrained")
    axes = figure.subplots()
    image = draw(axes, values, config)
    what = "MFCC" if isinstance(config, MfccConfig) else "log power"
    figure.colorbar(image, label=f"{what}, normalised as the network gets it", pad=0.01, fraction=0.05)
    axes.set_title(shortened(title, _TITLE_LETTERS), loc="left")
    axes.set_title(_described(config), loc="right", color="#666666", fontsize=9)
    return figure


def draw(axes: "Axes", values: NDArray[np.float32], config: MelConfig) -> "AxesImage":
    """Features over seconds and hertz; MFCCs over seconds and the coefficient's number.

    Args:
        values: [bands, frames].
    """
    bands, frames = values.shape
    hop_s = config.hop_samples / config.sample_rate_hz
    shown = _pooled(values)
    if isinstance(config, MfccConfig):
        colours = "RdBu_r"
        high = float(np.percentile(np.abs(shown), 99.5)) or 1.0
        low = -high
        axes.set_ylabel("coefficient")
    else:
        colours = "magma"
        low, high = map(float, np.percentile(shown, (1, 99.9)))
        high = max(high, low + 0.1)  # silence has one value only
        ticks = [hertz for hertz in _TICKS_HZ if config.f_min_hz < hertz < config.f_max_hz]
        axes.set_yticks([config.band_at(hertz) for hertz in ticks], [f"{hertz:,}" for hertz in ticks])
        axes.set_ylabel("Hz, on the mel scale")
    axes.set_xlabel("seconds")
    return axes.imshow(
        shown,
        origin="lower",
        aspect="auto",
        interpolation="nearest" if frames <= _MOST_COLUMNS else "antialiased",
        cmap=colours,
        vmin=low,
        vmax=high,
        extent=(-0.5 * hop_s, (frames - 0.5) * hop_s, -0.5, bands - 0.5),
    )


def _pooled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means over neighbouring frames, where there are more than can be seen. [bands, at most `_MOST_COLUMNS`]."""
    frames = values.shape[1]
    if frames <= _MOST_COLUMNS:
        return np.asarray(values)
    edges = np.linspace(0, frames, _MOST_COLUMNS + 1).astype(int)
    return (np.add.reduceat(values, edges[:-1], axis=1) / np.diff(edges)).astype(np.float32)


def _described(config: MelConfig) -> str:
    low, high = config.f_min_hz, min(config.f_max_hz, config.bandwidth_hz or config.f_max_hz)
    of = f"{number_of(config.bands, 'coefficient')} of " if isinstance(config, MfccConfig) else ""
    window_ms, hop_ms = (
        1000 * samples / config.sample_rate_hz for samples in (config.window_samples, config.hop_samples)
    )
    return f"{of}{config.n_mels} mel bands, {low:,g} to {high:,g} Hz; window {window_ms:g} ms, hop {hop_ms:g} ms"
