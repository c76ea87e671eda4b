"""Front ends: waveforms to mel spectrograms and MFCC.

How they are configured, and how they are computed. Networks are in `tagger.models`.
"""
