"""A small neural vocoder and a small neural codec, trained by this tool on training speech."""
