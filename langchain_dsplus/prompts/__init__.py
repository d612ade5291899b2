"""Prompts for the large model: pruned candidates, the parser of its answers, and the classes that may be removed."""
