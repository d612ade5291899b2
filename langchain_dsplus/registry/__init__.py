"""Versions of a small model in one folder: what is live, what may be promoted, and who follows."""
