"""Tests of tools/corpus/neural."""
