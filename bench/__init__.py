"""Ratios that the design promises, each measured side by side with what it is compared to."""
