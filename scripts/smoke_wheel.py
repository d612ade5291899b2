# ruff: noqa: T201
"""Use the installed wheel with nothing but its core dependencies.

Run by `make wheel` in a clean environment.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
from importlib.resources import files


def check(condition: object, what: str) -> None:
    """Stop with a plain line where something does not hold."""
    if not condition:
        msg = f"the wheel is broken: {what}"
        raise SystemExit(msg)


def main() -> None:
    """Import, route, miss an extra."""
    for module in ("torch", "sklearn", "sentence_transformers", "transformers", "langchain_openai"):
        check(importlib.util.find_spec(module) is None, f"{module} came in without an extra")

    import langchain_dsplus

    check("site-packages" in str(langchain_dsplus.__file__), "imported from the source tree, not from the wheel")
    check(langchain_dsplus.__version__ == importlib.metadata.version("langchain-dsplus"), "version differs")
    check(files("langchain_dsplus").joinpath("py.typed").is_file(), "py.typed is missing")
    for name in langchain_dsplus.__all__:
        check(getattr(langchain_dsplus, name) is not None, f"`{name}` cannot be imported without extras")

    from langchain_core.runnables import RunnableLambda

    from langchain_dsplus import ConfidenceRouter, FakeSmallModel, Outcomes, SentenceClassifier, certify
    from langchain_dsplus.report import render_report

    def ask(text: str) -> str:
        return "large says " + text

    small = FakeSmallModel({"great": {"pos": 0.99, "neg": 0.01}, "hm": {"pos": 0.6, "neg": 0.4}})
    router = ConfidenceRouter(small=small, large=RunnableLambda(ask).with_types(output_type=str), threshold=0.9)
    check(router.invoke("great") == "pos", "a sure answer must stay local")
    check(router.batch(["great", "hm"]) == ["pos", "large says hm"], "an unsure answer must escalate")
    check(asyncio.run(router.ainvoke("hm")) == "large says hm", "async differs from sync")

    rows = [{"small": "pos", "confidence": i / 700, "large": "pos"} for i in range(700)]
    certificate = certify(Outcomes.from_records(rows, about={"score": "max_probability", "labels": ["pos", "neg"]}))
    check(certificate.status == "CERTIFIED", "a table without a disagreement must certify")
    check("<html" in render_report(Outcomes.from_records(rows), certificate), "the report must render without extras")

    try:
        SentenceClassifier(labels=["pos", "neg"]).fit(["good", "bad"], ["pos", "neg"])
    except ImportError as error:
        check(
            "pip install 'langchain-dsplus[" in str(error),
            f"a missing extra must name the pip command: {error}",
        )
    else:
        check(condition=False, what="a missing extra must raise ImportError")
    print(f"langchain-dsplus {langchain_dsplus.__version__}: the wheel works without extras")


if __name__ == "__main__":
    main()
