"""The two graphs for LangGraph's own tools: `langgraph dev` reads `langgraph.json` beside this file.

Importing it needs no key, no network and no weights. The first input that needs a large model finds one: the server that
`OPENAI_API_KEY` and `OPENAI_BASE_URL` name, else a small open model that is served on this machine (extra `local`).
"""

from __future__ import annotations

import functools
import os
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableLambda

from langchain_dsplus import SmallModel, create_dispute_graph
from langchain_dsplus.graphs import create_dsplus_graph


@functools.cache
def large_model() -> BaseChatModel:
    """The model that costs money, or a local one in its place."""
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        from langchain_openai import ChatOpenAI

        os.environ.setdefault("OPENAI_API_KEY", "none")  # a server of your own asks for none
        return ChatOpenAI(model=os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), temperature=0)
    from langchain_dsplus.local.server import serve_model

    return serve_model("qwen2.5-coder-0.5b").chat_model(temperature=0, max_tokens=300)


class Later(BaseChatModel):
    """A chat model that is looked for when it is first asked."""

    @property
    def _llm_type(self) -> str:
        return "later"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return large_model()._generate(messages, stop, run_manager, **kwargs)

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return await large_model()._agenerate(messages, stop, run_manager, **kwargs)

    def with_structured_output(self, schema: Any, **kwargs: Any) -> Any:
        def bound() -> Any:
            return large_model().with_structured_output(schema, **kwargs)

        async def ask(messages: Any) -> Any:
            return await bound().ainvoke(messages)

        return RunnableLambda(lambda messages: bound().invoke(messages), afunc=ask)


EXAMPLES = {
    "card_arrival": [
        "When will my new card come?",
        "I am still waiting for my card",
        "my card has not arrived in the mail yet",
        "how long does delivery of a card take",
    ],
    "lost_card": [
        "I lost my card",
        "my wallet was stolen, block the card",
        "I cannot find my card anywhere",
        "please freeze my card, somebody took it",
    ],
    "exchange_rate": [
        "What rate do you use for euros?",
        "how is the exchange rate decided",
        "is your dollar rate better on weekdays",
        "the rate I got for yen was wrong",
    ],
    "top_up": [
        "How do I add money?",
        "can I top up with a bank transfer",
        "my top up did not show up in the account",
        "put 50 pounds on my account",
    ],
}


class Intents(SmallModel):
    """Logistic regression on character n-grams of a few examples, fitted when it is first asked.

    A real one has more examples, and a threshold with a certificate: see the other notebooks.
    """

    labels: list[str] = list(EXAMPLES)
    input_key: str | None = "text"

    def predict_proba(self, inputs: list[Any]) -> Any:
        return fitted().predict_proba([str(text) for text in inputs])


@functools.cache
def fitted() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = [text for examples in EXAMPLES.values() for text in examples]
    numbers = [place for place, examples in enumerate(EXAMPLES.values()) for _ in examples]
    pipeline = make_pipeline(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)), LogisticRegression(C=30.0))
    return pipeline.fit(texts, numbers)  # numbers keep the order of `labels`


# {"text": "Where is my card?"} -> label and route. The threshold is only an example: certify one on your own traffic.
classify = create_dsplus_graph(Intents(), Later(), threshold=0.75)

# {"statement": "..."} -> verdict. What two verdicts disagree on waits for a person; the server brings the checkpointer.
dispute = create_dispute_graph("extractive", Later(), review=True, checkpointer=True)
