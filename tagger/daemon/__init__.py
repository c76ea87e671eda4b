"""The daemon: settings to a running process, its parts, what it can be asked, and what survives a restart.

The loop itself is `tagger.listen`. What is published is in `tagger.mqtt` and `tagger.sinks`; flags and files are in
`tagger.config`.
"""
