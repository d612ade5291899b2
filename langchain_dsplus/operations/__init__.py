"""Running it: recorders, background work, prices, collecting outcomes."""
