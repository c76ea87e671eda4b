"""Data sets: ESC-50 and a user's own clips, decoded once and kept.

What training does to the sound is in `train.augment`.
"""
