"""Clips: audio of events, saved in a folder that the user names, and what a person says of them (`tagger review`).

The daemon saves through `ClipSaver`. Training on reviewed clips is in `train.data.own`.
"""
