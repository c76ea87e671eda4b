"""Networks: their shapes (`config`, no torch) and what they compute (torch).

A new network is a file here with a class that extends `network.Network`, and a config class with a line in
`config.ARCHITECTURES`. Reading its weights is in `tagger.checkpoints`, running it in `tagger.engine`.
"""
