from langchain_dsplus.local.chat import ChatLocal as ChatLocal
from langchain_dsplus.local.jobs import LocalModelError as LocalModelError
from langchain_dsplus.local.jobs import LocalTimeoutError as LocalTimeoutError
from langchain_dsplus.local.jobs import PromptTooLongError as PromptTooLongError
from langchain_dsplus.local.server import LocalServer as LocalServer
from langchain_dsplus.local.server import LocalServerError as LocalServerError
from langchain_dsplus.local.server import serve_model as serve_model
