"""What every benchmark shares: cells, methods in a cell, measuring, statistics, summaries."""
