"""The benchmark ``stored_set``."""
