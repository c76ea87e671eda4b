"""Fitting: trains each fold and the final checkpoint; a module for each trainer, and what they share.

A new trainer is a module here and a line in `job.TRAINERS`. Results are measured in `train.evaluate`.
"""
