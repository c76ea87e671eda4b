"""Data sets: ESC-50 and the user's own clips, their folds, and their decoded sound.

Nothing here changes the sound: see `train.augment`. Nothing here knows a network.
"""
