"""For Ray: `Tagger` is a callable class for Ray Data; `tagger.ray.serve:app` answers HTTP by Ray Serve.

Only `serve` imports Ray. Nothing of tagger's commands may come here.
"""

from tagger.ray.batches import Tagger

__all__ = ["Tagger"]
