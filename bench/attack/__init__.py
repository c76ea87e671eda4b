"""Attacks the live page of a real daemon as somebody would who shall not be let in: `python -m bench.attack`.

`target.py` is the daemon and what is looked at after each round, `wire.py` sends bytes as they are, and each of the
others tries one kind of thing.
"""
