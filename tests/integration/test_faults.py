"""A real `ChatOpenAI` behind the router, and a real HTTP server that plays faults."""

import asyncio
import json
import threading
import time

import openai
import pytest
from langchain_core.exceptions import OutputParserException
from langchain_openai import ChatOpenAI
from werkzeug import Response

from langchain_dsplus import ConfidenceRouter, FakeSmallModel
from langchain_dsplus.prompts.parser import LabelParser
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.small_models.chat import ChatClassifier

LABELS = ["billing", "shipping", "other"]
TABLE = {
    "where is my parcel": {"billing": 0.01, "shipping": 0.98, "other": 0.01},
    "you charged me twice": {"billing": 0.5, "shipping": 0.2, "other": 0.3},
}
SURE, UNSURE = {"text": "where is my parcel"}, {"text": "you charged me twice"}
both = pytest.mark.parametrize("async_", [False, True], ids=["sync", "async"])


def completion(content="billing", logprobs=None):
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served-model-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
                "logprobs": logprobs,
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21},
    }


class Script:
    """Plays its responses in order, the last one for ever; remembers the requests."""

    def __init__(self, *responses):
        self.responses = list(responses)
        self.requests = []
        self.times = []
        self.lock = threading.Lock()

    def __call__(self, request):
        with self.lock:
            self.requests.append(json.loads(request.get_data()))
            self.times.append(time.monotonic())
            response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
        return response(request) if callable(response) else response


def ok(content="billing", logprobs=None):
    return lambda _: Response(json.dumps(completion(content, logprobs)), content_type="application/json")


def status(code, headers=None):
    body = json.dumps({"error": {"message": "no", "type": "server_error", "code": None}})
    return lambda _: Response(body, code, headers=headers, content_type="application/json")


@pytest.fixture
def serve(httpserver):
    def start(*responses, **kwargs):
        script = Script(*responses)
        httpserver.expect_request("/v1/chat/completions").respond_with_handler(script)
        chat = ChatOpenAI(
            base_url=httpserver.url_for("/v1"),
            api_key="test",
            model="asked-model",
            **{"max_retries": 0, "timeout": 5.0, **kwargs},
        )
        return script, chat

    return start


def chain(chat, **kwargs):
    pruner = PromptPruner.from_messages([("human", "Classify: {text}")], labels=LABELS, pruning="soft")
    small = FakeSmallModel(TABLE, LABELS, input_key="text")
    return ConfidenceRouter(small=small, large=pruner | chat | LabelParser(LABELS), threshold=0.9, **kwargs)


def call(router, value, async_):
    return asyncio.run(router.ainvoke(value)) if async_ else router.invoke(value)


@both
def test_the_whole_way(serve, async_):
    script, chat = serve(ok())
    router = chain(chat, include_route=True)
    local, escalated = call(router, SURE, async_), call(router, UNSURE, async_)
    assert (local["output"], escalated["output"]) == ("shipping", "billing")
    (request,) = script.requests
    prompt = request["messages"][-1]["content"]
    assert "you charged me twice" in prompt
    assert "0.5" in prompt  # the soft prompt carries the small model's probabilities


def test_a_retry_after_is_honored_and_the_answer_comes(serve):
    script, chat = serve(status(429, {"Retry-After": "1"}), ok(), max_retries=2)
    router = chain(chat)
    assert router.invoke(UNSURE) == "billing"
    assert len(script.requests) == 2
    assert script.times[1] - script.times[0] >= 0.9


@both
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (status(429, {"Retry-After": "0"}), openai.RateLimitError),
        (status(500), openai.InternalServerError),
        (status(401), openai.AuthenticationError),
    ],
    ids=["429", "500", "401"],
)
def test_the_providers_errors_pass_through_and_the_small_answer_may_stand_in(serve, async_, fault, error):
    _, chat = serve(fault)
    with pytest.raises(error):
        call(chain(chat), UNSURE, async_)
    result = call(chain(chat, on_large_error="small", include_route=True), UNSURE, async_)
    assert result["output"] == "billing"
    assert result["route"]["degraded"] is True


@both
def test_a_timeout(serve, async_):
    def slow(request):
        time.sleep(0.6)
        return ok()(request)

    _, chat = serve(slow, timeout=0.2)
    with pytest.raises(openai.APITimeoutError):
        call(chain(chat), UNSURE, async_)
    result = call(chain(chat, on_large_error="small", include_route=True), UNSURE, async_)
    assert "Timeout" in result["route"]["error"]


@both
def test_malformed_json(serve, async_):
    _, chat = serve(lambda _: Response("{not json", content_type="application/json"))
    with pytest.raises(ValueError, match="property name"):  # the JSON reader's own error
        call(chain(chat), UNSURE, async_)
    assert call(chain(chat, on_large_error="small"), UNSURE, async_) == "billing"


@both
def test_a_wrong_label_is_a_clear_error_or_the_chosen_fallback(serve, async_):
    _, chat = serve(ok("a refund, perhaps"))
    with pytest.raises(OutputParserException) as caught:
        call(chain(chat), UNSURE, async_)
    assert "a refund" not in str(caught.value).partition("\n")[0]
    assert call(chain(chat, on_large_error="small"), UNSURE, async_) == "billing"


def events(*contents, done=True):
    def line(body):
        return f"data: {json.dumps(body)}\n\n"

    def chunk(delta, finish=None):
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "served-model-1",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }

    def generate():
        yield line(chunk({"role": "assistant", "content": ""}))
        for content in contents:
            yield line(chunk({"content": content}))
        if done:
            yield line(chunk({}, "stop"))
            yield "data: [DONE]\n\n"

    # A length that is never reached is how a client can tell that the connection broke in the middle.
    headers = {} if done else {"Content-Length": "100000"}
    return lambda _: Response(generate(), content_type="text/event-stream", headers=headers)


def stream(router, value, async_):
    if async_:

        async def collect():
            return [chunk async for chunk in router.astream(value)]

        return asyncio.run(collect())
    return list(router.stream(value))


def streaming_router(chat, **kwargs):
    small = FakeSmallModel(TABLE, LABELS, input_key="text")
    pruner = PromptPruner.from_messages([("human", "Classify: {text}")], labels=LABELS)
    return ConfidenceRouter(small=small, large=pruner | chat, threshold=0.9, **kwargs)


@both
def test_a_stream_comes_through_in_pieces(serve, async_):
    _, chat = serve(events("bil", "ling"))
    chunks = stream(streaming_router(chat), UNSURE, async_)
    assert "".join(c.text for c in chunks) == "billing"
    assert sum("dsplus" in c.response_metadata for c in chunks) == 1
    assert "".join(c.text for c in stream(streaming_router(chat), SURE, async_)) == "shipping"


@both
def test_a_stream_that_breaks_raises_and_never_mixes_two_answers(serve, async_):
    _, chat = serve(events("bil", done=False))
    router = streaming_router(chat, on_large_error="small")
    with pytest.raises(openai.APIConnectionError):
        stream(router, UNSURE, async_)


@both
def test_a_stream_that_fails_before_its_first_chunk_may_be_answered_by_the_small_model(serve, async_):
    _, chat = serve(status(500))
    chunks = stream(streaming_router(chat, on_large_error="small"), UNSURE, async_)
    assert "".join(c.text for c in chunks) == "billing"
    assert chunks[0].response_metadata["dsplus"]["degraded"] is True


def logprobs(token, p, other, q):
    import math

    top = [{"token": t, "logprob": math.log(v), "bytes": None} for t, v in ((token, p), (other, q))]
    return {"content": [{**top[0], "top_logprobs": top}], "refusal": None}


@both
def test_a_small_chat_model_with_logprobs(serve, async_):
    _, chat = serve(ok("shipping", logprobs("shipping", 0.95, "billing", 0.04)))
    small = ChatClassifier(chat, LABELS, name="small-llm")
    router = ConfidenceRouter(small=small, large=chat | LabelParser(LABELS), threshold=0.9, include_route=True)
    result = call(router, "where is it", async_)
    assert (result["output"], result["route"]["model"]) == ("shipping", "small-llm")
    assert result["route"]["answers"][0]["confidence"] == pytest.approx(0.95, abs=0.02)


@both
def test_a_small_chat_model_whose_server_has_no_logprobs_falls_back_to_votes(serve, async_):
    votes = ["shipping", "billing", "shipping", "shipping", "shipping", "shipping", "shipping"]
    script, chat = serve(*(ok(v) for v in votes))
    small = ChatClassifier(chat, LABELS, votes=5)
    answer = call(small, "where is it", async_)
    assert answer["choice"] == "shipping"
    assert 0.5 < answer["probabilities"]["shipping"] <= 1.0
    assert len(script.requests) >= 5


@both
def test_a_small_chat_model_that_fails_escalates(serve, async_):
    _, chat = serve(status(500))
    small = ChatClassifier(chat, LABELS)
    router = ConfidenceRouter(
        small=small, large=FakeLarge().runnable(), threshold=0.0, include_route=True, to_output=lambda a, _: a["choice"]
    )
    result = call(router, "x", async_)
    assert (result["output"], result["route"]["reason"]) == ("LARGE", "error")


class FakeLarge:
    def runnable(self):
        from langchain_core.runnables import RunnableLambda

        def ask(_) -> str:
            return "LARGE"

        return RunnableLambda(ask)


async def test_64_concurrent_escalations_over_http(serve):
    script, chat = serve(ok(), max_retries=2)
    router = chain(chat, batch_wait=0.02)
    results = await asyncio.gather(*(router.ainvoke(v) for v in [SURE, UNSURE] * 32))
    assert results == ["shipping", "billing"] * 32
    assert len(script.requests) == 32
