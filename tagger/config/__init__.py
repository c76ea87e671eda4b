"""Configuration: flags, environment and `tagger.toml` to settings.

`options` is the one table of all settings. Only this package knows the origin of a value: flag, variable, or
line of the file. The settings themselves are in `tagger.settings`, the rules of events in `tagger.policy`.
"""
