"""Evaluation: scores of clips and of streams, what they mean, and how it is shown.

It changes no network.
"""
