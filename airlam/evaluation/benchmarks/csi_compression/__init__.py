"""The benchmark ``csi_compression``."""
