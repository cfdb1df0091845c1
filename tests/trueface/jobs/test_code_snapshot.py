"""The code of finished jobs: its digests stay, and the present code is as promised."""

import pytest

from launcher.code_snapshot import unpromised
from launcher.kinds import installed_kinds
from launcher.system.code_digests import WHOLE_CODE, CodeIndex

# job type, a module that a setting chooses, and the digest of the code as queues of version 0.2 have it
DIGESTS = [
    ("benchmark", "", "c579cb6396ce4503f1bc83b655ca76bb"),
    ("classify", "", "611eeec86132667cef2fd9a79dd82049"),
    ("diffuser", "", "bcb2bdfa40333a0c6d946dd4b3e1a10d"),
    ("draw", "", "f8d06010ee2221acc05f1d6a6c081b85"),
    ("erased", "", "aa71d96ad96e534623952e3c20925c9f"),
    ("features", "", "3bd5878b5da28d9869064b11bedb838f"),
    ("forge", "", "de49a4b76994d1984bc45a83cade9bd2"),
    ("poison", "", "6c1d4b5efef545162b2dec57eb193988"),
    ("purify", "", "55946e1e64d7cc08b3a2e39d354b5d87"),
    ("sample", "", "e1bfb22aae34888a5b9ac41eb054d0f3"),
    ("test", "", "0141c31e45de9f6576e73ec648270d81"),
    ("train", "", "bc8ed1516a90c1cf59642d301374a372"),
    ("translate", "", "0d5b905f1e7b7912d80555fd64ed739f"),
    ("train", "trueface.models.architectures.slim18", "bb800029ec21a88e9a75ff6e1822e08b"),
    ("train", "trueface.training.objectives.daw", "df5fd867c8eb914e2dbd5c112dd8fc22"),
    ("train", "trueface.training.parts.groups", "bc8ed1516a90c1cf59642d301374a372"),
    ("train", "trueface.data.augmentations.steps", "bc8ed1516a90c1cf59642d301374a372"),
    ("test", "trueface.models.architectures.slim18", "968e3d3afe8f86fc4a9837fce3cd1961"),
    ("unlearn", "trueface.unlearning.methods.npo", "560d215d4c2b15230027e4aa418a3b51"),
    ("unlearn", "trueface.unlearning.methods.pgu", "308d5080edbf3ece6acce1bc5db0da2c"),
    ("forget", "trueface.unlearning.methods.scrub", "180c1ba7f22e24eac4a1dc38a5f36c93"),
    ("erase", "trueface.erasing.methods.esd", "a63d1c461c6d808ade295e12e00f0421"),
    ("benchmark", "trueface.corruptions.kinds.codecs", "94be662bd1e7eaed1202c66afd87626a"),
]
ADVICE = """
The code of trueface is not as trueface/code_promise.json records it. The list above contains the definitions that differ.
If all results are as before, run

    python -m launcher.code_snapshot promise trueface

Finished jobs then stay done. If a definition has other results, add `--changed MODULE.NAME`: jobs that use it run again.
Commit the file together with the code. See docs/identity.md.
"""


@pytest.fixture(scope="module")
def index() -> CodeIndex:
    return CodeIndex()


def test_code_is_as_promised(index: CodeIndex) -> None:
    changes = unpromised(index, "trueface")
    assert not changes, ADVICE


@pytest.mark.parametrize(("kind", "chosen", "digest"), DIGESTS)
def test_digest_of_finished_jobs_stays(
    index: CodeIndex, kind: str, chosen: str, digest: str
) -> None:
    installed = installed_kinds([kind])[kind]
    roots = (installed.entry.partition(":")[0], *installed.sources, *filter(None, [chosen]))
    assert index.code(installed.entry, tuple(dict.fromkeys(roots)))[WHOLE_CODE] == digest
