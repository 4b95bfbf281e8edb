"""The data ledger: read, rename, part, check, drop, and account for every row."""

from finetune.data.examples import Examples, from_rows
from finetune.data.findings import CODES
from finetune.data.loading import load
from finetune.data.mixture import NAME

__all__ = ["CODES", "NAME", "Examples", "from_rows", "load"]
