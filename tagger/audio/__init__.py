"""Samples: decoding files, resampling, cutting windows, measuring the level.

Needs numpy and the libraries that decode and resample. Microphones and pipes are opened in `tagger.sources`.
"""
