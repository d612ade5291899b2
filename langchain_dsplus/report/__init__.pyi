from langchain_dsplus.report.page import render_report as render_report
from langchain_dsplus.report.page import write_report as write_report
