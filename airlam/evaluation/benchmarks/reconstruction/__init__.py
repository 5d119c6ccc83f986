"""The benchmark ``reconstruction``."""
