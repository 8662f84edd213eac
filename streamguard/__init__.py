"""streamguard: is the voice on this call human? A real-time monitor for synthetic speech."""

__version__ = "0.1.0"
