"""Clips: the audio of events, kept where the user asks for it, and reviewed.

Training on them is in `train.data.own`.
"""
