"""`dsplus demo`: the main job on real parts, from reviews to a table, a plot and a dispute."""

from langchain_dsplus.demo.story import DemoError, run_demo

__all__ = ["DemoError", "run_demo"]
