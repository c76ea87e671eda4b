"""A fleet: many streams on many workers, one owner each.

`assignment` and `leases` are pure: they have no clock, no network and no process of their own. What hears does not
belong here.
"""
