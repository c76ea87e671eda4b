"""History: the database of events, `tagger events`, and a day as a picture.

The sink that fills the database is in `tagger.sinks`.
"""
