"""`dsplus demo`: the main job on real parts, from reviews to a table; and the packages that carry what it needs."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.demo.story import DemoError, run_demo
    from langchain_dsplus.demo.weights import register_packages

__all__ = ["DemoError", "register_packages", "run_demo"]

__getattr__, __dir__ = lazy(__name__, {"story": "DemoError run_demo", "weights": "register_packages"})
