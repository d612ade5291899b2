"""Overfitting as a signal for the shunt (the paper's open question): train longer on purpose, see what it certifies.

Banking77: a network of two layers on MiniLM's vectors, without any penalty, trained on 1,000 gold rows for 3 to 300
epochs, in front of GPT-4's recorded labels. Of the 3,080 test rows half certify a loss of at most 2 points, half are
scored: accuracy, ECE and AUROC of the small model, the share that the certificate keeps local, and the largest share
that could be kept in hindsight. Five seeds draw rows, halves and starts; changes are paired by seed.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.harness import Context, Figures, Table, interval
from benchmarks.paper import mean

EPOCHS = (3, 10, 30, 100, 300)
GOLD = 1000
PROMISE = "2 points"
SEEDS = 5
COLUMNS = {
    "train": "right of its own rows, %",
    "accuracy": "right, %",
    "ece": "ECE",
    "auroc": "AUROC",
    "local": "certified local, %",
    "hindsight": "hindsight, %",
}
NOT_RECHECKED = "every figure comes from networks that are trained for it on an encoder's vectors"


def trained(x: np.ndarray, y: list[str], epochs: int, seed: int) -> Any:
    """A network after so many epochs, and nothing that would stop it."""
    from sklearn.neural_network import MLPClassifier

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it could go on: that is what is wanted
        return MLPClassifier(
            (128,), alpha=0.0, batch_size=64, max_iter=epochs, tol=0.0, n_iter_no_change=10**6, random_state=seed
        ).fit(x, y)


def one(x: np.ndarray, rows: list[Any], own: tuple[np.ndarray, list[str]], net: Any, order: np.ndarray) -> Figures:
    """One network's figures."""
    from benchmarks.distil import local_share
    from benchmarks.scores import table_of
    from langchain_dsplus import certify
    from langchain_dsplus.calibration import auroc, expected_calibration_error

    p, labels = net.predict_proba(x), [str(label) for label in net.classes_]
    table = table_of(p, labels, [row.large["gpt-4"] for row in rows], [row.label for row in rows])
    proof, rest = np.split(order, 2)
    certificate = certify(table.select(proof), PROMISE)
    threshold = np.inf if certificate.threshold is None else certificate.threshold
    said = np.array([labels[k] for k in p.argmax(axis=1)])
    right = said == np.array([row.label for row in rows])
    large = np.array([row.large["gpt-4"] == row.label for row in rows])
    sure = p.max(axis=1)
    return {
        "train": 100 * float(net.score(*own)),
        "accuracy": 100 * float(right[rest].mean()),
        "proof": 100 * float(right[proof].mean()),
        "ece": expected_calibration_error(sure[rest], right[rest]),
        "auroc": auroc(sure[rest], right[rest]),
        "local": 100 * float((sure[rest] > threshold).mean()),
        "hindsight": 100 * local_share(sure[rest], right[rest], large[rest]),
    }


def run(context: Context) -> Figures:
    from benchmarks.scores import Vectors

    folder = data.find("banking77_gpt")
    for file in ("train.csv", "test.csv"):
        context.hash_file(folder / file)
    every, rows = data.banking77_gpt("train"), data.banking77_gpt("test")
    vectors = Vectors()
    x = vectors.encode([row.text for row in rows])
    epochs = context.pick(EPOCHS, EPOCHS[:3])
    seeds = context.pick(SEEDS, 2)
    found: dict[int, list[Figures]] = {count: [] for count in epochs}
    with context.progress("overfitting", seeds * len(epochs)) as advance:
        for seed in range(seeds):
            rng = context.random(f"rows {seed}")
            train = rng.sample(every, GOLD)
            own = vectors.encode([row.text for row in train]), [row.label for row in train]
            order = np.random.default_rng(rng.getrandbits(32)).permutation(len(rows))
            for count in epochs:
                found[count].append(one(x, rows, own, trained(*own, count, seed), order))
                advance(1)
    figures: Figures = {}
    for count, runs in found.items():
        for key in COLUMNS:
            figures |= mean(f"{count}.{key}", [run[key] for run in runs])
    # Against the number of epochs that is most accurate on the other half: what anybody would stop at.
    best = max(epochs, key=lambda count: sum(run["proof"] for run in found[count]))
    last = [b["local"] - a["local"] for a, b in zip(found[best], found[epochs[-1]], strict=True)]
    return figures | {"best": best} | mean("growth", last)


def tables(figures: Figures) -> list[Table]:
    counts = [count for count in EPOCHS if f"{count}.accuracy" in figures]
    digits = {"ece": 3, "auroc": 3}
    rows = [[str(n), *(interval(figures, f"{n}.{key}", digits.get(key, 1)) for key in COLUMNS)] for n in counts]
    note = ""
    if "growth" in figures:
        note = (
            f"{counts[-1]} epochs against {figures['best']:g}, the most accurate on the half that certifies: "
            f"{interval(figures, 'growth', sign=True)} points of certified local share."
        )
    return [Table("overfitting", "Trained for longer and longer", ["epochs", *COLUMNS.values()], rows, note)]
