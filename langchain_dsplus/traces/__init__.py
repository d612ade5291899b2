"""What was decided, written down and read again: recorders, the store, past calls, asking both sides."""
