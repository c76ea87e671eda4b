"""`tagger tag`: recordings to tables, by the loop of `tagger listen`, several at once.

What a window or an event is, is decided below, in `tagger.listen` and `tagger.decide`.
"""
