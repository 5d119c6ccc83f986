"""The benchmark ``beam_management``."""
