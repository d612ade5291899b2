"""Forward steps only, and never changed once released."""
