"""Programs of others, and networks of ours heard in others' way, for `bench/trust.py --command`: see docs/trust.md.

`command.py` asks a program and reads what it prints. `yamnet.py` and `network.py` are such programs; `yamnet.py` needs
nothing of ours. `table.py` lays several systems' results side by side.
"""
