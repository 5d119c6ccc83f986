"""The benchmark ``measured``."""
