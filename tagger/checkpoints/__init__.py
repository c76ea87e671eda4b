"""Checkpoints: the file and its header, models by name, downloads, official weights; and the bundled ones.

What a network computes is in `tagger.models`, how it is run in `tagger.engine`.
"""
