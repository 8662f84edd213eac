"""Tests of tools/corpus."""
