"""Choosing the threshold, and what a threshold costs."""
