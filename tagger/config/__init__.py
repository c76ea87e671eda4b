"""What the user wants, from flags, environment and `tagger.toml` to settings. `options` is the table of all of it."""
