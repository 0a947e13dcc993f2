"""Measurements, each with its alternatives beside it: `make bench`, docs/how-to/benchmark.md."""
