from langchain_dsplus.serve.app import Limits as Limits
from langchain_dsplus.serve.app import create_app as create_app
from langchain_dsplus.serve.label import label_app as label_app
from langchain_dsplus.serve.open import open_shunt as open_shunt
from langchain_dsplus.serve.tasks import ChatTask as ChatTask
from langchain_dsplus.serve.tasks import DecisionTask as DecisionTask
from langchain_dsplus.serve.upstream import Upstream as Upstream
