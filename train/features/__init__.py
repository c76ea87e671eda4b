"""`tagger features`: a clip's features as numbers and as a picture."""
