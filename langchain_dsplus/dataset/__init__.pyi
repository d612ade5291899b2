from langchain_dsplus.dataset.desk import SpentError as SpentError
from langchain_dsplus.dataset.folder import Routed as Routed
from langchain_dsplus.dataset.run import route_dataset as route_dataset
