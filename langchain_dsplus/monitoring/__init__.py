"""What is watched while a router runs: audits with their alarms, drift, budgets."""
