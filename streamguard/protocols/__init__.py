"""Sans-I/O parsers: bytes in, typed results out, and never an exception for what a peer sent."""
