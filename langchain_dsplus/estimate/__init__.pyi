from langchain_dsplus.estimate.figures import estimate as estimate
from langchain_dsplus.estimate.record import LogEstimate as LogEstimate
from langchain_dsplus.estimate.record import Share as Share
from langchain_dsplus.estimate.tasks import Task as Task
