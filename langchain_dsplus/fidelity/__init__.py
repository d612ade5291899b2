"""The check of a rewrite against its source, and what it reads texts with: sentences, numbers, forged orders."""
