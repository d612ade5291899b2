from langchain_dsplus.traces.calls import outcomes_from_calls as outcomes_from_calls
from langchain_dsplus.traces.collect import CostLimitError as CostLimitError
from langchain_dsplus.traces.collect import acollect_outcomes as acollect_outcomes
from langchain_dsplus.traces.collect import collect_outcomes as collect_outcomes
from langchain_dsplus.traces.recorder import JSONLRecorder as JSONLRecorder
from langchain_dsplus.traces.recorder import drop_texts as drop_texts
from langchain_dsplus.traces.store import TraceStore as TraceStore
