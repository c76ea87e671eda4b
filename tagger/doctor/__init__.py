"""`tagger doctor`: whether everything is there that listening needs, and what to do where it is not.

Belongs here: looking, and saying what was found. Does not: mending anything, or what `tagger config check` tells alone.
"""
