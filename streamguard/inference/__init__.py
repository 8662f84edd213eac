"""Bundles, engines, batches: from hops to window scores."""
