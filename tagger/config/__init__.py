"""Configuration: flags, environment and `tagger.toml` to settings.

`options` is the one table of all that can be set. Only this package knows where a value is from: flag, variable, or
line of the file. The settings themselves are in `tagger.settings`, the rules of events in `tagger.policy`.
"""
