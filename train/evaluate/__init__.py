"""Evaluation: scores of clips and of streams, what they mean, and how it is shown.

Metrics, reports, pictures. It runs networks and changes none; training, in `train.fit`, calls it.
"""
