"""``streamguard bench``: what one window costs here, and how many legs this machine holds.

The code measured is that of the daemon: nothing runs here that users do not run, but for the
baselines, which are named so.
"""
