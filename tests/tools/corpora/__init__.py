"""Tests of tools/corpora."""
