"""Front ends: waveforms to mel spectrograms and MFCC.

Configuration (no numpy), filters (numpy) and their computation (torch). Networks are in `tagger.models`.
"""
