"""Checkpoints: their file format, finding them by name, downloads, conversion of official weights; the bundled files.

Networks are in `tagger.models`; what runs them is in `tagger.engine`.
"""
