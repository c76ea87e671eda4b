"""Collecting: events of all nodes of a broker, into one database. `tagger collect`.

What hears and what publishes does not belong here.
"""
