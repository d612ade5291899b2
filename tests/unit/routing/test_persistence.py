import hashlib
import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("skops")

from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from langchain_dsplus.answer import MismatchError
from langchain_dsplus.identity import identify
from langchain_dsplus.prompts.conformal import ConformalCandidates
from langchain_dsplus.prompts.pruner import PromptPruner
from langchain_dsplus.routing.persistence import SavedRouterError, load_pruner, load_router, save_router
from langchain_dsplus.routing.router import ConfidenceRouter
from langchain_dsplus.small_models.fake import FakeSmallModel
from langchain_dsplus.small_models.sentence import SentenceClassifier
from langchain_dsplus.small_models.sklearn import SklearnClassifier
from langchain_dsplus.threshold.certificate import Certificate
from langchain_dsplus.traces.recorder import JSONLRecorder

TEXTS = ["good phone", "great sound", "love this", "works well", "bad phone", "poor sound", "hate this", "broke soon"]
LABELS = ["pos"] * 4 + ["neg"] * 4


def large(text: str) -> str:
    return "asked"


def tfidf(**options):
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=50)).fit(TEXTS, LABELS)
    return SklearnClassifier(model, **options)


class Letters:
    """An encoder that counts letters."""

    version = "letters"

    def encode(self, texts):
        return np.array([[t.count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for t in texts], dtype=np.float32)


def sentence(**options):
    return SentenceClassifier(Letters(), **options).fit(TEXTS, LABELS)


def router(small=None, threshold=0.8, chain=large, **options):
    return ConfidenceRouter(small=tfidf() if small is None else small, large=chain, threshold=threshold, **options)


def files(folder):
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file())


def certificate(small, chain, threshold=0.8, **about):
    identity = identify(chain, version="v1")
    return Certificate(
        status="CERTIFIED", threshold=threshold, thresholds={"small": threshold}, max_loss=0.01, level=0.95,
        alpha=0.05, p_value=0.01, harms=1, gains=2, coverage=0.4, n=500, unit="input", prompt="plain",
        about={
            "score": "max_probability", "labels": small.labels, "small": small.version, "large": identity.large,
            "prompt": identity.prompt, **about,
        },
    )  # fmt: skip


# --- round trips --------------------------------------------------------------------------------------------------


def test_the_same_router_comes_back(tmp_path):
    saved = router(
        name="intents", mode="live", audit_rate=0.25, never_local=["neg"], small_timeout=3.0, on_large_error="small",
        context_key="ctx", version="v1", allow_override=True, background=False, batch_wait=0.01, batch_size=8,
        score="margin",
    )  # fmt: skip
    save_router(saved, tmp_path / "r")
    assert files(tmp_path / "r") == ["manifest.json", "router.json", "small/0/model.json", "small/0/model.skops"]
    assert [p.name for p in tmp_path.iterdir()] == ["r"]
    again = load_router(tmp_path / "r", large=large, version="v1")
    for field in set(ConfidenceRouter.model_fields) - {"small", "large", "threshold"}:
        assert getattr(again, field) == getattr(saved, field), field
    assert again.threshold == {"small": 0.8}
    assert again.small_models[0].version == saved.small_models[0].version
    assert again.batch(TEXTS) == saved.batch(TEXTS)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.1 + 0.2, 0.1 + 0.2), (None, None), (math.inf, None), (-math.inf, -sys.float_info.max), (5e-324, 5e-324)],
)
def test_thresholds_to_the_last_bit(tmp_path, threshold, expected):
    save_router(router(threshold=threshold), tmp_path / "r")
    assert load_router(tmp_path / "r", large).threshold == {"small": expected}


def test_several_small_models(tmp_path):
    first, second = tfidf(), sentence()
    saved = router([first, second], threshold=[0.9, 0.7])
    assert saved.small_names == ["small", "small_2"]
    save_router(saved, tmp_path / "r")
    again = load_router(tmp_path / "r", large, options={"small_2": {"encoder": Letters()}})
    assert again.small_names == ["small", "small_2"]
    assert [m.version for m in again.small_models] == [first.version, second.version]
    assert again.threshold == {"small": 0.9, "small_2": 0.7}
    assert again.batch(TEXTS) == saved.batch(TEXTS)
    assert (first.name, second.name) == ("small", "small")
    with pytest.raises(ValueError, match="encoder="):
        load_router(tmp_path / "r", large)


def test_a_bare_estimator(tmp_path):
    save_router(router(tfidf().estimator), tmp_path / "r")
    assert load_router(tmp_path / "r", large).batch(TEXTS[:1]) == router().batch(TEXTS[:1])


def test_torch_models(tmp_path):
    torch = pytest.importorskip("torch")
    from langchain_dsplus.small_models.image import ImageClassifier, ImagePreprocess

    def build():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))

    small = ImageClassifier(build(), ["a", "b"], preprocess=ImagePreprocess(size=(4, 4), channels=1), name="eyes")
    save_router(router(small, threshold=0.0), tmp_path / "r")
    again = load_router(tmp_path / "r", large, options={"eyes": {"build": build}})
    image = np.random.default_rng(0).random((4, 4))
    assert again.invoke(image) == small.invoke(image)["choice"]
    with pytest.raises(ValueError, match="build="):
        load_router(tmp_path / "r", large)


def test_settings_given_at_load_win(tmp_path):
    save_router(router(mode="live"), tmp_path / "r")
    recorder = JSONLRecorder(tmp_path / "rows.jsonl")
    again = load_router(tmp_path / "r", large, mode="shadow", recorder=recorder)
    assert (again.mode, again.recorder) == ("shadow", recorder)
    with pytest.raises(TypeError, match="threshold"):
        load_router(tmp_path / "r", large, threshold=0.0)
    with pytest.raises(ValueError, match="no_such"):
        load_router(tmp_path / "r", large, no_such=1)


def test_functions_are_given_again(tmp_path):
    saved = router(
        chain=RunnableLambda(lambda text: 7), to_output=lambda answer, _: answer["choice"], score=lambda p: p["pos"]
    )
    save_router(saved, tmp_path / "r")
    with pytest.raises(SavedRouterError, match=r"\['score', 'to_output'\]"):
        load_router(tmp_path / "r", large)
    again = load_router(tmp_path / "r", RunnableLambda(lambda text: 7), to_output=saved.to_output, score=saved.score)
    assert again.batch(TEXTS) == saved.batch(TEXTS)


def test_models_without_files(tmp_path):
    fake = FakeSmallModel({"good phone": {"pos": 0.9, "neg": 0.1}}, name="fake", version="1")
    save_router(router(fake), tmp_path / "r")
    assert files(tmp_path / "r") == ["manifest.json", "router.json"]
    assert load_router(tmp_path / "r", large, small={"fake": fake}).invoke("good phone") == "pos"
    for small, words in (
        (None, "pass it as"),
        ({"fake": FakeSmallModel({}, ["pos", "neg"], version="2")}, "version"),
        ({"fake": FakeSmallModel({}, ["pos", "other"], version="1")}, "labels"),
        ({"other": fake}, "other"),
    ):
        with pytest.raises(SavedRouterError, match=words):
            load_router(tmp_path / "r", large, small=small)


def test_a_version_of_ones_own_is_kept(tmp_path):
    save_router(router(tfidf(version="release 7")), tmp_path / "r")
    assert load_router(tmp_path / "r", large).small_models[0].version == "release 7"


def test_another_module_behind_the_same_weights_is_told(tmp_path):
    torch = pytest.importorskip("torch")
    from langchain_dsplus.small_models.image import ImageClassifier, ImagePreprocess

    class Scaled(torch.nn.Module):
        def __init__(self, by=1.0):
            super().__init__()
            self.by = by
            self.layer = torch.nn.Linear(3, 2)

        def forward(self, x):
            return self.layer(x.mean((2, 3))) * self.by

    small = ImageClassifier(Scaled(), ["a", "b"], preprocess=ImagePreprocess(size=(4, 4)), name="eyes")
    save_router(router(small), tmp_path / "r")
    with pytest.warns(UserWarning, match="not quite the one"):
        load_router(tmp_path / "r", large, options={"eyes": {"build": lambda: Scaled(2.0)}})


def test_an_encoder_in_a_folder_travels_along(tmp_path, monkeypatch):
    source = tmp_path / "encoder"
    (source / "1_Pooling").mkdir(parents=True)
    for name, body in {"a.safetensors": "w", "1_Pooling/config.json": "{}", "notes.md": "no"}.items():
        (source / name).write_text(body)
    from langchain_dsplus.small_models.encoder import Encoder

    monkeypatch.setattr(Encoder, "encode", lambda self, texts, progress=False: Letters().encode(texts))
    small = SentenceClassifier(source).fit(TEXTS, LABELS)
    save_router(router(small), tmp_path / "r")
    assert "small/0/encoder/1_Pooling/config.json" in files(tmp_path / "r")
    assert "small/0/encoder/notes.md" not in files(tmp_path / "r")
    save_router(router(small), tmp_path / "lean", encoders=False)
    assert len(files(tmp_path / "lean")) == 4
    shutil.rmtree(source)
    (tmp_path / "r").rename(tmp_path / "elsewhere")
    again = load_router(tmp_path / "elsewhere", large)
    assert again.small_models[0].version == small.version
    assert again.batch(TEXTS) == [
        small.invoke(t)["choice"] if small.invoke(t)["confidence"] > 0.8 else "asked" for t in TEXTS
    ]


def test_a_real_encoder_travels_along(tmp_path, encoder_path):
    small = SentenceClassifier(encoder_path).fit(TEXTS, LABELS)
    saved = router(small, threshold=0.6)
    digest = save_router(saved, tmp_path / "r")
    (tmp_path / "r").rename(tmp_path / "elsewhere")
    again = load_router(tmp_path / "elsewhere", large, sha256=digest)
    assert again.small_models[0].encoder.path == tmp_path / "elsewhere" / "small" / "0" / "encoder"
    assert again.small_models[0].version == small.version
    assert again.batch(TEXTS) == saved.batch(TEXTS)


# --- certificate --------------------------------------------------------------------------------------------------


def test_a_certificate_and_what_it_is_bound_to(tmp_path):
    small = tfidf()
    saved = router(small, certificate(small, large), version="v1")
    save_router(saved, tmp_path / "r")
    again = load_router(tmp_path / "r", large, version="v1")
    assert again.certificate == saved.certificate
    assert again.certificate.id == saved.certificate.id
    assert (again.unverifiable, again.void) == (saved.unverifiable, ())
    with pytest.raises(MismatchError):
        load_router(tmp_path / "r", large, version="v2")
    with pytest.warns(UserWarning, match="something else: large"):
        void = load_router(tmp_path / "r", large, version="v2", on_mismatch="escalate_all")
    assert void.void
    assert void.batch(TEXTS) == ["asked"] * len(TEXTS)
    with pytest.raises(SavedRouterError, match="version"):  # the text that names a chain comes with the chain
        load_router(tmp_path / "r", large)


def test_a_refusal_stays_one(tmp_path):
    small = tfidf()
    refused = Certificate(
        **{
            **certificate(small, large).__dict__, "status": "NOT_CERTIFIED", "threshold": math.inf,
            "thresholds": {"small": math.inf},
        }
    )  # fmt: skip
    save_router(router(small, refused, version="v1"), tmp_path / "r")
    again = load_router(tmp_path / "r", large, version="v1")
    assert not again.certificate.certified
    assert again.batch(TEXTS) == ["asked"] * len(TEXTS)


# --- pruner -------------------------------------------------------------------------------------------------------


def make_pruner(**options):
    rows = [
        {"probabilities": {"pos": p, "neg": 1 - p}, "gold": "pos" if p > 0.4 else "neg", "confidence": max(p, 1 - p)}
        for p in np.linspace(0.01, 0.99, 200).tolist()
    ]
    settings = {"pruning": "keep", "conformal": ConformalCandidates.fit(rows, 0.1), "max_share": 1.0, **options}
    return PromptPruner.from_messages(
        [("system", "Be brief {{}}."), MessagesPlaceholder("history", optional=True), HumanMessage("x"), ("human", "{text}")],
        labels=["pos", "neg"], **settings,
    )  # fmt: skip


def test_the_pruner_comes_back(tmp_path):
    pruner = make_pruner(descriptions={"pos": "happy {x}"})
    model = FakeListChatModel(responses=["neg"])
    keyed = tfidf(input_key="text")
    saved = router(keyed, chain=pruner.chain(model))
    save_router(saved, tmp_path / "r")
    assert "pruner.json" in files(tmp_path / "r")
    again = load_pruner(tmp_path / "r")
    assert again == pruner
    value = {"text": "hm", "probabilities": {"pos": 0.6, "neg": 0.4}}
    assert again.invoke(value) == pruner.invoke(value)
    loaded = load_router(tmp_path / "r", again.chain(model))
    assert loaded.invoke({"text": "good phone"}) == "pos"
    with pytest.raises(SavedRouterError, match="pruner in `large`"):
        load_router(tmp_path / "r", make_pruner().chain(model))


def test_pruners_are_found_inside_chains(tmp_path):
    pruner = make_pruner(pruning="soft")
    model = FakeListChatModel(responses=["neg"])
    for number, chain in enumerate(
        [pruner | model, (pruner | model).with_retry(), ({"a": pruner} | RunnableLambda(lambda x: "x"))]
    ):
        saved = router(tfidf(input_key="text"), chain=chain, to_output=lambda a, _: a["choice"])
        save_router(saved, tmp_path / f"r{number}")
        assert load_pruner(tmp_path / f"r{number}") == pruner
    both = {"a": pruner, "b": make_pruner(pruning="none")} | RunnableLambda(lambda x: "x")
    with pytest.raises(ValueError, match="2 different pruners"):
        save_router(router(chain=both, to_output=lambda a, _: a["choice"]), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_router_without_a_pruner(tmp_path):
    save_router(router(), tmp_path / "r")
    with pytest.raises(SavedRouterError, match="no pruner"):
        load_pruner(tmp_path / "r")
    save_router(router(), tmp_path / "s", pruner=make_pruner())
    assert load_pruner(tmp_path / "s") == make_pruner()


def test_a_pruner_with_functions_is_not_saved(tmp_path):
    for pruner in (
        make_pruner().partial(text=lambda: "now"),
        PromptPruner.from_messages(
            [("human", "{{ text }}{{ candidates }}")], labels=["a", "b"], template_format="jinja2"
        ),
    ):
        with pytest.raises(ValueError, match="cannot be saved"):
            save_router(router(), tmp_path / "r", pruner=pruner)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "body",
    [
        {"lc": 1, "type": "constructor", "id": ["langchain_core", "prompts", "chat", "ChatPromptTemplate"], "kwargs": {"messages": []}},
        {"lc": 1, "type": "constructor", "id": ["langchain_dsplus", "prompts", "pruner", "PrunedChain"], "kwargs": {}},
        {"lc": 1, "type": "constructor", "id": ["subprocess", "Popen"], "kwargs": {"args": "true"}},
        {"lc": 1, "type": "secret", "id": ["PATH"]},
        {"a": 1},
    ],
)  # fmt: skip
def test_nothing_but_a_pruner_comes_out_of_its_file(tmp_path, body):
    save_router(router(), tmp_path / "r", pruner=make_pruner())
    (tmp_path / "r" / "pruner.json").write_text(json.dumps(body))
    forge(tmp_path / "r")
    with pytest.raises(SavedRouterError, match="it is no pruner"):
        load_pruner(tmp_path / "r")


# --- damage -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "r"
    small = tfidf()
    digest = save_router(router(small, certificate(small, large), version="v1"), folder, pruner=make_pruner())
    return folder, digest


@pytest.fixture
def copied(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "r")
    return tmp_path / "r"


def forge(folder):
    """Write a manifest that fits the files: what somebody may do who can write there."""
    body = json.loads((folder / "manifest.json").read_text())
    body["files"] = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        for name in files(folder)
        if name != "manifest.json"
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(body))


NAMES = ["certificate.json", "pruner.json", "router.json", "small/0/model.json", "small/0/model.skops"]


def test_every_file_is_listed(whole):
    assert files(whole[0]) == sorted([*NAMES, "manifest.json"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("harm", ["missing", "cut", "one bit", "longer", "link", "folder"])
def test_harm_to_any_file_is_refused(copied, tmp_path, name, harm):
    file = copied / name
    body = file.read_bytes()
    if harm == "one bit":
        file.write_bytes(body[:40] + bytes([body[40] ^ 1]) + body[41:])
    elif harm == "cut":
        file.write_bytes(body[:-1])
    elif harm == "longer":
        file.write_bytes(body + b"\n")
    else:
        file.unlink()
        if harm == "link":
            (tmp_path / "twin").write_bytes(body)
            file.symlink_to(tmp_path / "twin")
        elif harm == "folder":
            file.mkdir()
    for read in (lambda: load_router(copied, large), lambda: load_pruner(copied)):
        with pytest.raises(SavedRouterError, match="refused"):
            read()


def test_any_flipped_bit_and_any_cut_is_refused(copied):
    rng = np.random.default_rng(0)
    for name in [*NAMES, "manifest.json"]:
        file = copied / name
        whole = file.read_bytes()
        for place, bit in zip(rng.integers(0, len(whole), 40).tolist(), rng.integers(0, 8, 40).tolist(), strict=True):
            for harmed in (
                whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :],
                whole[: min(place, len(whole) - 3)],  # a manifest whose last line end is missing says the same
            ):
                file.write_bytes(harmed)
                with pytest.raises(SavedRouterError, match="refused"):
                    load_router(copied, large, version="v1")
        file.write_bytes(whole)
    assert load_router(copied, large, version="v1").batch(TEXTS[:1]) == ["pos"]


@pytest.mark.parametrize("name", ["more.json", "small/1/model.json", "small/0/.hidden", "manifest.json.bak"])
def test_files_that_are_not_listed_are_refused(copied, name):
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).write_text("{}")
    with pytest.raises(SavedRouterError, match="are not in"):
        load_router(copied, large)


@pytest.mark.parametrize(
    "text",
    [
        None, "", "{", "[]", "{}", "[" * 100_000, '{"kind": "langchain-dsplus router", "format": 2, "files": {}}',
        '{"kind": "langchain-dsplus router", "format": 1, "files": {}}',
        '{"kind": "langchain-dsplus router", "format": 1, "files": {"router.json": {}, "../../x": {}}}',
        '{"kind": "langchain-dsplus router", "format": 1, "files": ["router.json"]}',
    ],
)  # fmt: skip
def test_a_damaged_manifest(copied, text):
    (copied / "manifest.json").unlink()
    if text is not None:
        (copied / "manifest.json").write_text(text)
    with pytest.raises(SavedRouterError, match="refused"):
        load_router(copied, large)


def test_the_digest_tells_a_forged_manifest(whole, copied):
    folder, digest = whole
    assert load_router(folder, large, version="v1", sha256=digest.upper()).certificate.threshold == 0.8
    text = (copied / "certificate.json").read_text()
    (copied / "certificate.json").write_text(text.replace("0.8", "0.1"))
    forge(copied)
    assert load_router(copied, large, version="v1").certificate.threshold == 0.1  # without the digest nobody can tell
    for read in (lambda: load_router(copied, large, sha256=digest), lambda: load_pruner(copied, sha256=digest)):
        with pytest.raises(SavedRouterError, match="sha256"):
            read()


@pytest.mark.parametrize(
    "change", [{"kind": "FakeSmallModel"}, {"kind": "os.system"}, {"labels": ["x", "y"]}, {"extra": 1}]
)
def test_a_forged_record_is_refused(copied, change):
    body = json.loads((copied / "router.json").read_text())
    body["small"][0].update(change)
    (copied / "router.json").write_text(json.dumps(body))
    forge(copied)
    with pytest.raises(SavedRouterError, match=r"kind|belong|damaged"):
        load_router(copied, large, version="v1")


def test_what_is_not_there(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SavedRouterError, match="refused"):
            load_router(path, large)


# --- writing ------------------------------------------------------------------------------------------------------


def test_a_saved_router_is_replaced_as_a_whole(tmp_path):
    save_router(router([tfidf(), sentence()]), tmp_path / "r")
    save_router(router(threshold=0.5), tmp_path / "r")
    assert [p.name for p in tmp_path.iterdir()] == ["r"]
    assert load_router(tmp_path / "r", large).threshold == {"small": 0.5}


def test_nothing_else_is_replaced(tmp_path):
    (tmp_path / "dear").mkdir()
    (tmp_path / "dear" / "photo.png").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("dear", "file"):
        with pytest.raises(FileExistsError, match="no saved router"):
            save_router(router(), tmp_path / name)
    assert files(tmp_path) == ["dear/photo.png", "file"]
    (tmp_path / "empty").mkdir()
    save_router(router(), tmp_path / "empty")


def test_a_save_that_fails_leaves_what_was(tmp_path, monkeypatch):
    save_router(router(), tmp_path / "r")
    before = (tmp_path / "r" / "manifest.json").read_bytes()
    monkeypatch.setattr(SklearnClassifier, "save", lambda self, path: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_router(router(threshold=0.5), tmp_path / "r")
    monkeypatch.undo()
    import langchain_dsplus.routing.persistence as module

    real = module.Path.rename

    def rename(self, target):
        if ".tmp-" in self.name:
            raise OSError("cut off")
        return real(self, target)

    monkeypatch.setattr(module.Path, "rename", rename)
    with pytest.raises(OSError, match="cut off"):
        save_router(router(threshold=0.5), tmp_path / "r")
    assert [p.name for p in tmp_path.iterdir()] == ["r"]
    assert (tmp_path / "r" / "manifest.json").read_bytes() == before


def test_a_killed_save_leaves_nothing_that_loads(tmp_path):
    """The process dies before the manifest: the half-written folder is refused, the old one stays."""
    save_router(router(), tmp_path / "r")
    code = (
        "import os, sys; import langchain_dsplus.routing.persistence as p\n"
        "from langchain_dsplus.routing.router import ConfidenceRouter; from langchain_core.runnables import RunnableLambda\n"
        "from langchain_dsplus.small_models.fake import FakeSmallModel\n"
        "def ask(x) -> str: return 'x'\n"
        "p._write_manifest = lambda *_: os._exit(9)\n"
        "p.save_router(ConfidenceRouter(small=FakeSmallModel({}, ['a', 'b']), large=ask), sys.argv[1])"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "r")], check=False).returncode == 9
    assert load_router(tmp_path / "r", large).batch(TEXTS[:1]) == router().batch(TEXTS[:1])
    (half,) = (p for p in tmp_path.iterdir() if p.name != "r")
    assert (half / "router.json").is_file()
    with pytest.raises(SavedRouterError, match="half written"):
        load_router(half, large)


def test_no_key_and_no_text_of_the_large_chain_is_written(tmp_path):
    chain = ChatPromptTemplate.from_messages([("human", "{text} SECRET-TEMPLATE")]) | FakeListChatModel(
        responses=["SECRET-REPLY"]
    )
    save_router(router(tfidf(input_key="text"), chain=chain, version="v1"), tmp_path / "r")
    assert not any(b"SECRET" in f.read_bytes() for f in (tmp_path / "r").rglob("*") if f.is_file())
