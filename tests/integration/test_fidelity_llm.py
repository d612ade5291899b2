"""The fidelity gate on real rewrites of disputes: what lost a fact that must be kept does not pass."""

import pytest

from benchmarks.disputes.texts import load
from langchain_dsplus.transfer import PromptTransfer


@pytest.mark.llm
@pytest.mark.parametrize("server", ["smollm_server", "qwen_server"])
def test_rewrites_that_lost_a_fact_are_refused(server, request):
    model = request.getfixturevalue(server).chat_model(temperature=0, max_tokens=160)
    transfer = PromptTransfer(model, on_unfaithful="both")
    shown = lossy = passed = 0
    for dispute in load(["en"], "tune")[:2]:
        out = transfer.invoke({"text": dispute.statement})
        if out["transfer"]["used"] == "original":
            continue
        shown += 1
        rewrite = out["rewrite"].partition("<<<ORIGINAL")[0]
        lost = not all(fact.kept(rewrite) for fact in dispute.must_keep)
        lossy += lost
        passed += lost and out["transfer"]["used"] == "rewrite"
    print(f"{server}: {lossy} of {shown} rewrites that could be shown lost a fact, {passed} of them passed")
    assert passed == 0
