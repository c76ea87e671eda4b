"""Evaluation: scores of clips and of streams, their measures, reports and pictures.

No module here trains a network or changes a checkpoint.
"""
