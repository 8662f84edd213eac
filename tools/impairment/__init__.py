"""Calls made worse on purpose: what senders and networks do to RTP, by seed."""
