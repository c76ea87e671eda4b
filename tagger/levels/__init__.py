"""Sound levels as acousticians measure them, and events that need no network: loud sounds.

Networks, windows and policies must not live here.
"""
