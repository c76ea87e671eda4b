"""Fitting: folds in turn, the trainers, and what they share.

What the result is worth is in `train.evaluate`.
"""
