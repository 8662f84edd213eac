"""Where audio comes from: async I/O around one protocol each; all emit the same events."""
