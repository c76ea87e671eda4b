"""The offline package: makes checkpoints that `tagger` runs. It imports tagger; tagger never imports it."""
