"""The command line: a module a command, from flags to a call.

Each imports what it needs when it is called, so that `tagger --help` answers at once. Commands do not import each
other. What a command does is in the package that it calls; nothing below imports this one.
"""
