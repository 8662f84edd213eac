"""From what a source delivers to hops of 16 kHz audio with their quality: pure, synchronous."""
