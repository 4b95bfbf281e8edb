"""Which parameters are trained: full, LoRA or QLoRA, as all tools of this plugin name them."""

from __future__ import annotations

from typing import Any

from finetune.kit import Conversion

ALL_LINEAR = {"all", "all-linear", "all_linear", "auto"}
"""What tools call every linear layer."""

LORA_NAMES = (
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "modules_to_save",
    "use_dora",
    "use_rslora",
    "loraplus_lr_ratio",
)


def put_lora(
    conversion: Conversion,
    options: dict[str, tuple[Any, str, str]],
    *,
    bits: int = 0,
    bits_key: str = "",
    is_bf16: bool = False,
    double_quant: tuple[bool, str] = (True, ""),
) -> None:
    """Write the strategy `lora`, or `qlora` on a quantized model.

    Args:
        conversion: The conversion.
        options: Option of the strategy → its value, the key that gives it and a note. Options of `peft.LoraConfig` that
            the strategy does not have go into its `config`.
        bits: 4 or 8 for a quantized model, else 0.
        bits_key: The key that says so.
        is_bf16: Whether the run computes in bfloat16.
        double_quant: Whether the scales are quantized too, and the key that says so.
    """
    conversion.put("strategy.name", "qlora" if bits else "lora")
    if bits:
        conversion.put("strategy.bits", bits, source=bits_key)
        if bits == 4:
            conversion.put("strategy.double_quant", double_quant[0], source=double_quant[1])
            if is_bf16:
                conversion.put("strategy.compute_dtype", "bfloat16", note="as the run computes in bfloat16")
    for name, (value, source, note) in options.items():
        if value is None:
            continue
        place = f"strategy.{name}" if name in LORA_NAMES else f"strategy.config.{name}"
        conversion.put(place, targets(value) if name == "target_modules" else value, source=source, note=note)


def targets(value: Any) -> Any:
    """Return target modules as a recipe has them: `all-linear`, a list of names, or a regular expression.

    >>> targets("q_proj, v_proj")
    ['q_proj', 'v_proj']
    >>> targets("all")
    'all-linear'
    """
    if isinstance(value, str):
        if value.strip() in ALL_LINEAR:
            return "all-linear"
        if "," in value:
            return [name.strip() for name in value.split(",")]
        return [value] if value.replace("_", "").isalnum() else value
    names = [str(name) for name in value]
    return "all-linear" if len(names) == 1 and names[0] in ALL_LINEAR else names
