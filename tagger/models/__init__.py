"""Networks: their shapes (`config`, no torch) and what they compute (torch).

A new network is a file here, a line in `config.ARCHITECTURES` and a line in `registry.NETWORKS`.
Reading its weights is in `tagger.checkpoints`, running it in `tagger.engine`.
"""
