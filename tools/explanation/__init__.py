"""Why a network said what it said of a window: where in time and frequency it looked."""
