"""The report: one HTML file that shows what a threshold gives, what a certificate promises, and what would be lost."""

from langchain_dsplus.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
