"""Language codes of multilingual tokenizers: mBART, mBART-50, M2M100, NLLB, PLBart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from finetune.errors import BadOptions, did_you_mean


def known(tokenizer: Any) -> list[str] | None:
    """Return the codes of the languages that a tokenizer writes, or None where it writes none (T5, BART, Marian)."""
    if not hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        return None
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if codes:
        return list(codes)
    named = {getattr(tokenizer, f"{name}_token") for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")}
    return [token for token in tokenizer.all_special_tokens if token not in named]


def use(tokenizer: Any, wanted: Mapping[str, str | None]) -> None:
    """Make a multilingual tokenizer mark sources and targets with their languages; leave any other alone.

    Args:
        tokenizer: Changed in place; what it encodes from now on is marked.
        wanted: Option → code, the source's first, then the target's; one option may stand for both.

    Raises:
        BadOptions: It is multilingual, and a code is missing or unknown.
    """
    codes = known(tokenizer)
    if codes is None:
        return
    for option, code in wanted.items():
        if code not in codes:
            given = "none is given." if code is None else f"{code!r} is no language of it.{_nearest(code, codes)}"
            raise BadOptions(
                f"preprocessor.{option}: the tokenizer ({type(tokenizer).__name__}) marks texts with their language, "
                f"and {given} {_list(codes)}"
            )
    source, *rest = wanted.values()
    tokenizer.src_lang, tokenizer.tgt_lang = source, rest[0] if rest else source


def _nearest(code: str, codes: Collection[str]) -> str:
    """Name what a code may be short for, else the nearest: `en` is meant for `en_XX`."""
    longer = [each for each in codes if code and each.lower().startswith(code.lower())]
    return f" Did you mean {longer[0]!r}?" if longer else did_you_mean(code, codes)


def _list(codes: Collection[str]) -> str:
    few = sorted(codes)[:10]
    more = f" and {len(codes) - len(few)} more" if len(codes) > len(few) else ""
    return f"It knows: {', '.join(few)}{more}."
