"""Figures for Prometheus, and the record of the calls to the two nodes."""
