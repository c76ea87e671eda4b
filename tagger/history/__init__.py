"""History: the event log (an SQLite database), and what `tagger events` shows of it.

The sink that fills the event log is in `tagger.sinks`.
"""
