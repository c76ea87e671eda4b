"""The live page of `tagger listen --web`: what is heard, what is rejected and why, and how the daemon does.

`live.py` gathers what is live, `api.py` answers questions, `access.py` says who may ask, `app.py` joins them, and
`server.py` runs them in a thread. The page itself is in `static/`. The loop and the daemon do not live here.
"""
