"""One table of all systems and their ablations: rows, training within a budget, cost, scores."""
