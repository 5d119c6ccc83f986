"""The benchmark ``positioning``."""
