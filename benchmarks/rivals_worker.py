"""The part of `rivals` that runs inside the rivals' own environment: requests as JSON lines in, decisions out.

It imports nothing of this repository, and each rival only when it is asked for. The recorded answers come in one .npz
file: `small`, `large`, `gold` (places in the list of labels), `score`, `top` (largest probability), `probabilities`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
import time
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np

PACKAGES = ("bargain", "cascadeflow", "deferguard", "tracer-llm", "numpy", "scikit-learn")


class Rows:
    """The recorded answers, and what each rival decides about them. `rows` are row numbers, repeats allowed."""

    def __init__(self, path: str, labels: list[str]) -> None:
        with np.load(path) as arrays:
            self.small, self.large, self.gold = (arrays[name] for name in ("small", "large", "gold"))
            self.score, self.top, self.probabilities = (arrays[name] for name in ("score", "top", "probabilities"))
        self.labels = labels
        # A harm: the large model is right and the small one is not.
        self.harm = (self.large == self.gold) & (self.small != self.gold)
        self.differ = self.small != self.large

    def bargain(self, rows: list[int], target: float, delta: float, harms: bool, seed: int) -> dict:
        """BARGAIN_A on one batch. With `harms`, an answer counts as wrong only where it is a harm."""
        from BARGAIN import BARGAIN_A, Oracle, Proxy

        data, asked = self, set()

        class Small(Proxy):
            def proxy_func(self, place):
                return str(data.small[rows[place]]), float(data.score[rows[place]])

        class Large(Oracle):
            def oracle_func(self, place, answer):
                row = rows[place]
                same = answer == str(data.large[row])
                if answer and not same:
                    asked.add(row)  # with `harms`, gold is needed here
                return same or (harms and answer != "" and not data.harm[row]), str(data.large[row])

        small, large = Small(verbose=False, max_workers=1), Large(verbose=False, max_workers=1)
        start = time.perf_counter()
        method = BARGAIN_A(small, large, target=target, delta=delta, verbose=False, seed=seed)
        answers, used = method.process(list(range(len(rows))), return_oracle_usage=True)
        seconds = time.perf_counter() - start
        local = [data.score[row] for row, by_large in zip(rows, used, strict=True) if not by_large]
        return {
            "answers": [int(answer) for answer in answers],
            "used": [bool(one) for one in used],
            "calls": int(large.get_number_preds()),
            "gold": len(asked) if harms else 0,
            "cut": float(min(local)) if local else None,
            "fit": seconds,
        }

    def deferguard(self, certify: list[int], alpha: float | None, harms: bool) -> dict:
        """Its calibrator: at the tightest alpha that it recommends for so many rows, or at a given one."""
        from deferguard.core.calibrator import Calibrator
        from deferguard.core.decision import CalibrationExample
        from deferguard.core.validation import InsufficientCalibrationDataError, recommend_alpha

        wrong = self.harm if harms else self.differ
        examples = [CalibrationExample(signal=float(self.score[i]), correct=not wrong[i]) for i in certify]
        # A given alpha is stricter than it recommends: its factor of safety of 10 on n is waived, which it allows.
        factor = 10.0 if alpha is None else 1.0
        alpha = alpha or recommend_alpha(len(certify))
        calibrator = Calibrator(alpha=alpha, safety_multiplier=factor)
        start = time.perf_counter()
        try:
            calibrator.fit(examples)
        except InsufficientCalibrationDataError:
            return {"cut": None, "alpha": alpha, "fit": time.perf_counter() - start, "call": None}
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        for row in certify[:50]:
            calibrator.decide(signal=float(self.score[row]))
        call = (time.perf_counter() - start) / len(certify[:50])
        cut = calibrator.threshold if math.isfinite(calibrator.threshold) else None
        return {"cut": cut, "alpha": alpha, "fit": seconds, "call": call}

    def tracer(self, certify: list[int], rows: list[int], target: float, skip: list[str]) -> dict:
        """TRACER, with the small model's probabilities as embeddings and the large model as teacher."""
        import tracer

        with tempfile.TemporaryDirectory() as folder:
            traces = Path(folder, "traces.jsonl")
            lines = [json.dumps({"input": f"row {i}", "teacher": str(self.large[i])}) for i in certify]
            traces.write_text("\n".join(lines), encoding="utf-8")
            config = tracer.FitConfig(
                target_teacher_agreement=target,
                frontier_targets=(target,),
                verbose=False,
                skip_candidates=tuple(skip),
            )
            known = self.probabilities.astype(np.float32)
            start = time.perf_counter()
            tracer.fit(traces, embeddings=known[certify], artifact_dir=Path(folder, "fitted"), config=config)
            seconds = time.perf_counter() - start
            try:
                router = tracer.load_router(Path(folder, "fitted"))
            except ValueError:  # its way to say that nothing may be deployed
                return {"answers": None, "fit": seconds, "call": None}
            answers = [None if label is None else int(label) for label in router.predict_batch(known[rows])["labels"]]
            start = time.perf_counter()
            for row in rows[:20]:
                router.predict(known[row])
            return {"answers": answers, "fit": seconds, "call": (time.perf_counter() - start) / len(rows[:20])}

    def cascadeflow(self, rows: list[int], gate: str) -> dict:
        """Its LangChain chat model in front of recorded answers: gate `text`, `logprobs` or `validator`."""
        from cascadeflow.integrations.langchain import CascadeFlow
        from langchain_core.language_models.chat_models import BaseChatModel
        from langchain_core.messages import AIMessage
        from langchain_core.outputs import ChatGeneration, ChatResult

        data = self

        class Recorded(BaseChatModel):
            large: bool

            @property
            def _llm_type(self) -> str:
                return "gpt-4o-mini"  # a model that it has a price for: others print a warning for each call

            def _generate(self, messages, *_, **__):
                row = int(messages[-1].content)
                label = data.labels[(data.large if self.large else data.small)[row]]
                message = AIMessage(label, additional_kwargs={"confidence": float(data.score[row])})
                info = {}
                if gate == "logprobs":
                    token = {"token": label, "logprob": math.log(max(float(data.top[row]), 1e-12))}
                    info = {"logprobs": {"content": [token]}}
                return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)])

        def confidence(result) -> float:
            return result.generations[0].message.additional_kwargs["confidence"]

        own = {"quality_validator": confidence} if gate == "validator" else {}
        chain = CascadeFlow(
            drafter=Recorded(large=False), verifier=Recorded(large=True), enable_pre_router=False, **own
        )
        used = []
        start = time.perf_counter()
        for row in rows:
            used.append(chain.invoke(str(row)).response_metadata["cascade"]["model_used"] == "verifier")
        return {"used": used, "call": (time.perf_counter() - start) / len(rows)}


def versions() -> dict[str, str]:
    """What is installed here."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def main() -> None:
    """Answer requests until stdin ends. What the rivals print goes to stderr."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    warnings.simplefilter("ignore")
    rows = None
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            request = json.loads(line)
            name = request.pop("do")
            try:
                if name == "load":
                    rows, reply = Rows(**request), {"versions": versions()}
                else:
                    reply = getattr(rows, name)(**request)
            except Exception as error:
                reply = {"error": f"{name}: {type(error).__name__}: {error}"}
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


if __name__ == "__main__":
    main()
