"""Windows to scores: runs a checkpoint's network.

Whether a score is an event is decided in `tagger.decide`, not here.
"""
