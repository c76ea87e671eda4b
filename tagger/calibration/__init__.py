"""Calibration of thresholds: `tagger calibrate`, for a wished rate of false alarms.

It classifies recordings as the daemon does, counts events, and writes thresholds to `tagger.toml`. It changes no
checkpoint.
Calibration of a network's scores (temperature, bias) is a part of training, in `train.fit`.
"""
