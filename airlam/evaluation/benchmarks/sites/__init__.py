"""The benchmark ``sites``."""
