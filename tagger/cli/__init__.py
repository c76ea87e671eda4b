"""The command line: one module for each command, from flags to a call.

A command imports what it needs when it is called, so that `tagger --help` answers at once. Commands do not import each
other. The work is done in the packages that they call; no other package imports this one.
"""
