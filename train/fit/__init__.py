"""Fitting: folds in turn, the trainers, and what they share.

What is done to the sound is in `train.augment`, what the result is worth in `train.evaluate`. The recipes are in
`train.recipe`.
"""
