"""Beside the daemon, for ``streamguard demo``: voices, sender, broker, table, report."""
