"""What the daemon says about itself: metrics, health, latency, log."""
