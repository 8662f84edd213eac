"""One evaluator for every bundle, detection or attribution, on every corpus."""
