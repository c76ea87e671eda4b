"""Windows to scores: runs a checkpoint's network on its device.

Networks are in `tagger.models`, their files in `tagger.checkpoints`. Whether a score is an event is decided in
`tagger.decide`, not here.
"""
