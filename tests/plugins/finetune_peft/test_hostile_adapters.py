"""An adapter is loaded from safetensors, and as the method that the run used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from peft import LoraConfig

from finetune.errors import BadRecipe
from finetune_peft.strategy import check_adapter


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    check_adapter(tmp_path, LoraConfig)
    return tmp_path


@pytest.mark.parametrize(("beside", "said"), [("adapter_model.bin", "adapter_model.bin is a pickle"), ("a.txt", "")])
def test_pickled_weights_are_refused(adapter: Path, beside: str, said: str) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / beside)
    with pytest.raises(BadRecipe, match=rf"Adapters are loaded from safetensors only\..*{said}.* Restore the file"):
        check_adapter(adapter, LoraConfig)


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 9999, '{"peft_type": "XLORA"}', '{"peft_type": ["LORA"]}'])
def test_another_method_is_refused(adapter: Path, content: str) -> None:
    (adapter / "adapter_config.json").write_text(content)
    with pytest.raises(BadRecipe, match=r"adapter_config\.json' (is no configuration|has peft_type)"):
        check_adapter(adapter, LoraConfig)
