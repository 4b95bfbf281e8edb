"""The data ledger: read, rename, part, check, drop, and account for every row."""

from finetune.data.examples import Examples, from_rows, load
from finetune.data.findings import CODES

__all__ = ["CODES", "Examples", "from_rows", "load"]
