"""Augmentation: what training does to waveforms and spectrograms.

Which clips there are is in `train.data`.
"""
