"""Spoiled recipes and run folders are read or refused; the campaign sees a crash."""

from __future__ import annotations

import fuzz_documents
import pytest

from finetune.training import checkpoints

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> fuzz_documents.Folder:
    return fuzz_documents.Folder(tmp_path_factory.mktemp("documents"), with_toy=False)


def test_spoiled_documents_are_read_or_refused(folder: fuzz_documents.Folder) -> None:
    found = fuzz_documents.measure(seed=1, folder=folder, seconds=600, files=20)
    assert found.crashes == [] and found.hangs == []
    assert found.files == 20 == found.loaded + found.refused and len(found.documents) == 8
    assert found.loaded >= 4 and found.refused >= 4, "both must be common, or the mutations are too weak or too strong"


def test_a_manifest_that_is_not_checked_is_seen(folder: fuzz_documents.Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Everything:
        def validate_python(self, content: object, *, strict: bool) -> object:
            return content

    monkeypatch.setattr(checkpoints, "adapter", lambda form: Everything())
    monkeypatch.setattr(folder, "finished", [])
    found = fuzz_documents.measure(
        seed=1, folder=folder, seconds=600, files=60, kinds={"manifest": fuzz_documents.a_manifest}
    )
    assert found.crashed > 0 and ": manifest: " in found.crashes[0] and "checkpoints.py" in found.crashes[0]
