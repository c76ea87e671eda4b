"""Samples: decoded from files, resampled, cut into windows, measured.

numpy only, and the libraries that decode and resample. What opens a microphone or a stream is in `tagger.sources`.
"""
