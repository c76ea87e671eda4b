"""Augmentation: changes of waveforms and spectrograms, and windows as a stream has them.

Every draw comes from a generator that is handed in. No module here trains or imports a network.
"""
