"""The benchmark ``channel_prediction``."""
