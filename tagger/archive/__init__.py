"""`tagger archive`: collections of recordings to partitioned Parquet, shard by shard, in many processes.

What a window or an event is, is decided below, in `tagger.listen` and `tagger.decide`; how one recording is followed,
in `tagger.tag.recording`.
"""
