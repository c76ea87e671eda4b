"""`tagger bench`: what listening costs on this machine.

Each measurement is made of the program itself: workers that call `tagger.listen.follow`, and daemons that a pipe feeds.
Nothing that a daemon runs is imported from here.
"""
