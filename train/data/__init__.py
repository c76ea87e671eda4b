"""Data sets: ESC-50 and a user's own clips, decoded once and kept.

Clips, labels, folds and waveforms. What training does to the sound is in `train.augment`; nothing here knows recipes
or networks.
"""
