"""Small local models and a paid large model, together in LangChain and LangGraph.

Every public name is imported when it is first used: `import langchain_dsplus` costs next to nothing.
"""

import sys

from langchain_dsplus._imports import lazy

if sys.version_info < (3, 11):  # noqa: UP036 - where pip was told to look away, the first error would be a riddle
    raise ImportError(
        f"langchain-dsplus needs Python 3.11 or newer, and this is {sys.version_info[0]}.{sys.version_info[1]}"
    )

# A star import must work without the extra `middleware`, which the base class of this name comes from.
__getattr__, __dir__, __all__ = lazy(__spec__, "ConfidenceShuntMiddleware")
