"""Calibration: thresholds for a wished rate of false alarms.

Calibration of a network's scores (temperature, bias) is a part of training, in `train.fit`.
"""
