from langchain_dsplus.demo.story import DemoError as DemoError
from langchain_dsplus.demo.story import run_demo as run_demo
from langchain_dsplus.demo.weights import register_packages as register_packages
