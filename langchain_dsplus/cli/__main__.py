"""`python -m langchain_dsplus.cli`."""

from langchain_dsplus.cli import app

app()
