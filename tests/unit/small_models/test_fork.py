"""A worker that is forked after torch was used answers, and does not hang."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

SCRIPT = """
import os, signal, sys
import numpy as np, torch
from langchain_dsplus.small_models.image import ImageClassifier, ImagePreprocess
torch.set_num_threads(2)
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 2048), torch.nn.ReLU(), torch.nn.Linear(2048, 2))
small = ImageClassifier(module, ["cat", "dog"], preprocess=ImagePreprocess(size=(64, 64)), device="cpu")
images = [np.full((64, 64, 3), n, dtype=np.uint8) for n in range(64)]
before = [a["choice"] for a in small.answers(images)]
child = os.fork()
if child == 0:
    signal.alarm(30)  # a hang ends here
    for _ in range(2):
        after = [a["choice"] for a in small.answers(images)]
    import asyncio
    threads = [a["choice"] for a in asyncio.run(small.aanswers(images))]
    os._exit(0 if after == before == threads and torch.get_num_threads() == 1 else 3)
print(os.waitpid(child, 0)[1], torch.get_num_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_after_use_answers():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["0", "2"], done.stderr[-2000:]
    assert "one thread" in done.stderr
