"""The benchmark ``probes``."""
