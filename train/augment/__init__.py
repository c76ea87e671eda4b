"""Augmentation: what training does to waveforms and spectrograms.

Functions of samples, a recipe and a random generator. Which clips there are is in `train.data`; who calls it is in
`train.fit`.
"""
