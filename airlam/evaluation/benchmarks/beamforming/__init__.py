"""The benchmark ``beamforming``."""
