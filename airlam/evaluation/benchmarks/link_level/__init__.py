"""The benchmark ``link_level``."""
