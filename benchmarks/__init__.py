"""Measurements of speed and size; docs/measurements.md and docs/benchmarks.md record results."""
