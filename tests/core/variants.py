"""Every strategy in the forms that the composition test tries, and which parameters train in each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune.plugins import discover

NEW = r"^(classifier|score|qa_outputs)\.|\.pooler\."
"""Parameters that the tiny bases lack, so that they are newly initialized."""
WHOLE = r"\.modules_to_save\."
"""What PEFT trains whole: heads, and what was newly initialized."""
TYPELESS = {"masked-language-modeling": "PEFT has no type for this task"}
FEW = {"num_virtual_tokens": 4}
STEADY = {"learning_rate": 5e-3}
"""For every parameter of a model: at the rate that a head or an adapter wants, the embeddings would be shaken."""
FAST = {"learning_rate": 5e-2}
"""For the few numbers that prompts, prefixes and scales are made of, and for ten steps."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One strategy with options."""

    strategy: str
    """Its name in the catalogue."""
    trains: str | None = None
    """A regular expression that finds something in the name of every parameter that trains, and of no other; None for
    what the strategy itself says."""
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    """Beside the task's."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Task → what the refusal must say, where the two cannot go together."""

    @property
    def section(self) -> dict[str, Any]:
        """The recipe's ``strategy`` section."""
        return {"name": self.strategy, **self.options}

    def parameters(self, names: set[str], said: set[str]) -> set[str]:
        """Return which of some parameters train; what TRL measures a policy against never does."""
        if self.trains is None:
            return said
        return {name for name in names if re.search(self.trains, name) and ".ref." not in name}


VARIANTS: Mapping[str, Variant] = {
    "full": Variant(strategy="full", trains="", training=STEADY),
    # where the head is tied: the last block of the decoder
    "frozen": Variant(
        strategy="frozen",
        trains=NEW + r"|^(lm_head|cls)\.|^decoder\.(block\.1|final_layer_norm)\.|^model\.decoder\.layers\.1\.",
    ),
    "gradual": Variant(strategy="gradual", trains="", training=STEADY),
    "discriminative": Variant(strategy="discriminative", trains="", training=STEADY),
    "lora": Variant(strategy="lora", trains=rf"\.lora_[AB]\.|{WHOLE}"),
    "lora-all-linear": Variant(
        strategy="lora", options={"r": 4, "target_modules": "all-linear"}, trains=rf"\.lora_[AB]\.|{WHOLE}"
    ),
    "dora": Variant(strategy="lora", options={"use_dora": True}, trains=rf"\.lora_([AB]|magnitude_vector)\.|{WHOLE}"),
    "rslora": Variant(strategy="lora", options={"use_rslora": True}, trains=rf"\.lora_[AB]\.|{WHOLE}"),
    "qlora": Variant(strategy="qlora", trains=rf"\.lora_[AB]\.|{WHOLE}"),
    "prefix": Variant(
        strategy="prefix", options=FEW, trains=rf"^prompt_encoder\.|{WHOLE}", refused=TYPELESS, training=FAST
    ),
    "prefix-projection": Variant(
        strategy="prefix",
        options={**FEW, "prefix_projection": True},
        trains=rf"^prompt_encoder\.|{WHOLE}",
        refused=TYPELESS,
    ),
    "prompt": Variant(
        strategy="prompt", options=FEW, trains=rf"^prompt_encoder\.|{WHOLE}", refused=TYPELESS, training=FAST
    ),
    "ptuning": Variant(strategy="ptuning", options=FEW, trains=rf"^prompt_encoder\.|{WHOLE}", refused=TYPELESS),
    "ia3": Variant(strategy="ia3", trains=rf"\.ia3_l\.|{WHOLE}", training=FAST),
    "layernorm": Variant(strategy="layernorm", trains=rf"\.ln_tuning_layers\.|{WHOLE}", training=FAST),
    "peft-miss": Variant(strategy="peft", options={"type": "MISS", "r": 4}, trains=rf"\.miss_block\.|{WHOLE}"),
    "houlsby": Variant(strategy="bottleneck", options={"placement": "houlsby"}, trains=rf"\.adapter\.|{NEW}"),
    "pfeiffer": Variant(strategy="bottleneck", options={"placement": "pfeiffer"}, trains=rf"\.adapter\.|{NEW}"),
}
"""Name → variant, for every strategy that we know."""


def installed() -> dict[str, Variant]:
    """Return the variants of every installed strategy; one that has none in the table enters as it is."""
    names = list(discover().catalogues["strategies"].targets)
    known = {variant.strategy for variant in VARIANTS.values()}
    found = {name: variant for name, variant in VARIANTS.items() if variant.strategy in names}
    return {**found, **{name: Variant(strategy=name) for name in names if name not in known}}
