"""Read texts that stand in a folder for each label: ``aclImdb/train/pos/0_9.txt``."""

from __future__ import annotations

from pathlib import Path

from finetune.data.findings import Report, UnreadableError
from finetune.data.readers import text
from finetune.errors import BadData, did_you_mean, listed
from finetune.interfaces import Finding
from finetune.recipe import Source

Labels = dict[str, list[Path]]
"""Label → the files of its folder."""


def find(folder: Path) -> dict[str, Labels]:
    """Return split → label → files; empty if no two folders of texts are next to each other.

    The folders of the labels are in folders such as ``train`` and ``test``, or in the folder itself, which is then the
    split ``train``.
    """
    below = {each.name: labels for each in _folders(folder) if len(labels := _labels(each)) > 1}
    if not below and len(labels := _labels(folder)) > 1:
        below = {"train": labels}
    return below


def read(splits: dict[str, Labels], source: Source, folder: Path, *, report: Report) -> dict[str, list[dict[str, str]]]:
    """Return split → rows with the columns ``text``, ``label`` and ``id``, the path of the file below the folder.

    Without ``dataset.options.labels``, the labels are the folders that every split has; others are reported.

    A file that cannot be read as text is reported.

    Raises:
        BadData: An option is wrong, or no two labels are left.
    """
    labels = _chosen(splits, source)
    rows: dict[str, list[dict[str, str]]] = {}
    for split, found in splits.items():
        rows[split] = []
        for label, files in found.items():
            if label not in labels:
                _left_out(label, len(files), split=split, source=source, report=report)
                continue
            for file in files:
                try:
                    content = "".join(text.Text(file, name=str(file), encoding=source.encoding))
                except UnreadableError as error:
                    report.add(error.finding)
                    continue
                rows[split].append({"text": content, "label": label, "id": file.relative_to(folder).as_posix()})
    for other in _folders(folder):
        if other.name not in splits and len(splits) > 1 and (texts := _texts(other)):
            message = f"the {len(texts):,} texts in the folder {other.name!r} are not used: they have no label."
            report.add(Finding(code="folder-left-out", message=message, fix="", level="warning"))
    return rows


def _chosen(splits: dict[str, Labels], source: Source) -> list[str]:
    """Return the labels that are read."""
    names = sorted({label for labels in splits.values() for label in labels})
    for key in source.options:
        if key != "labels":
            raise BadData(f"dataset.options: a folder for each label has no option {key!r}. Its option is: labels.")
    given = source.options.get("labels")
    if given is None:
        common = [label for label in names if all(label in labels for labels in splits.values())]
        if len(common) < 2:
            raise BadData(
                f"{source.path}: the splits have different folders: {listed(names)}. Name the labels: "
                f"dataset.options.labels: [{', '.join(names[:2])}]."
            )
        return common
    if not isinstance(given, list) or len(set(map(str, given))) < 2:
        raise BadData(f"dataset.options.labels must be a list of two names of folders or more. It is {given!r}.")
    for label in given:
        if label not in names:
            raise BadData(
                f"dataset.options.labels: there is no folder {label!r}.{did_you_mean(str(label), names)} "
                f"Folders: {listed(names)}."
            )
    return given


def _left_out(label: str, files: int, *, split: str, source: Source, report: Report) -> None:
    if "labels" in source.options:
        return
    message = f"the {files:,} texts in the folder {label!r} are not used: not every split has this folder."
    fix = "To choose the labels, set dataset.options.labels: [pos, neg], with names of folders."
    report.add(Finding(code="folder-left-out", message=message, fix=fix, level="warning", split=split))


def _labels(folder: Path) -> Labels:
    found = {each.name: _texts(each) for each in _folders(folder)}
    return {label: files for label, files in found.items() if files}


def _texts(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.txt") if file.is_file())


def _folders(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.is_dir())
