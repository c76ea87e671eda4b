"""`tagger features`: a clip's features as numbers and as a picture.

The features are computed in `tagger.features`. Training does not use this package.
"""
