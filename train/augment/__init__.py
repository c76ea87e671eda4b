"""Augmentation: changes of waveforms and spectrograms, and windows as a stream has them.

Every draw comes from a generator that is handed in. Nothing here trains, or knows a network.
"""
