"""The commands: flags to settings. Each imports what it needs when it is called."""
