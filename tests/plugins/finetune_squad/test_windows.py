"""Windows: what the tokenizer would make, token for token, whatever the family and the batch."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune import testing
from finetune.errors import BadData, BadOptions, Incompatible
from finetune.options import build
from finetune.testing.tokenizers import FAMILIES, TEXTS
from finetune_squad import SquadPlugin if False else layout  # placeholder
