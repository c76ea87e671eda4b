"""Training and evaluation, offline: makes the checkpoints that `tagger` runs.

It imports `tagger`; of `tagger`, only the commands in `tagger.cli.train` import it. It imports neither the daemon nor
MQTT. Long streams are scored through the daemon's own loop, `tagger.listen`.
"""
