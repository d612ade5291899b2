"""What is claimed, measured: `python -m benchmarks` lists, `python -m benchmarks NAME [--quick]` runs one."""
