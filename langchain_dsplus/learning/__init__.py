"""What the large model teaches flows back into a small one."""
