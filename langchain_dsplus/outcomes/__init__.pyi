from langchain_dsplus.outcomes.sampling import Estimate as Estimate
from langchain_dsplus.outcomes.sampling import LabelSample as LabelSample
from langchain_dsplus.outcomes.table import Outcomes as Outcomes
from langchain_dsplus.outcomes.traces import default_label as default_label
