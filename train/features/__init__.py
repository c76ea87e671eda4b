"""`tagger features`: writes a clip's features as an array and as a picture.

The front ends themselves are in `tagger.features`.
"""
