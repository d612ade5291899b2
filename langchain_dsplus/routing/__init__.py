"""How a router does its work: what it derives from its fields, the steps of a decision, and what is told about it."""
