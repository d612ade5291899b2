"""Language models on this machine: `ChatLocal`, its engines, and a server for GGUF files."""

from typing import TYPE_CHECKING

from langchain_dsplus._imports import lazy

if TYPE_CHECKING:
    from langchain_dsplus.local.chat import ChatLocal
    from langchain_dsplus.local.jobs import LocalModelError, LocalTimeoutError, PromptTooLongError
    from langchain_dsplus.local.server import LocalServer, LocalServerError, serve_model

__all__ = [
    "ChatLocal",
    "LocalModelError",
    "LocalServer",
    "LocalServerError",
    "LocalTimeoutError",
    "PromptTooLongError",
    "serve_model",
]

__getattr__, __dir__ = lazy(
    __name__,
    {
        "chat": "ChatLocal",
        "jobs": "LocalModelError LocalTimeoutError PromptTooLongError",
        "server": "LocalServer LocalServerError serve_model",
    },
)
