"""Training, evaluation, calibration, export: the command lines that need torch."""
