"""The benchmark ``radio_map``."""
