"""Sound levels as acousticians measure them, and events that need no network: loud sounds, alarms.

Networks, windows and policies must not live here.
"""
