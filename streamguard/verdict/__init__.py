"""From window scores to what we say of a leg: pure, no I/O, no clock."""
