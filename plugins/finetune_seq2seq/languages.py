"""Language codes of multilingual tokenizers: mBART, mBART-50, M2M100, NLLB, PLBart."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from finetune.errors import BadOptions, did_you_mean

_NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def language_codes(tokenizer: Any) -> list[str] | None:
    """Return the codes of a tokenizer's languages, or None if it has none (T5, BART, Marian)."""
    if not hasattr(tokenizer, "set_tgt_lang_special_tokens"):
        return None
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if codes:
        return list(codes)
    others = {getattr(tokenizer, name) for name in _NAMED_TOKENS}
    return [token for token in tokenizer.all_special_tokens if token not in others]


def set_languages(tokenizer: Any, wanted: Mapping[str, str | None]) -> None:
    """Set the languages of a multilingual tokenizer; any other tokenizer stays as it is.

    Args:
        tokenizer: Changed in place: from now on it marks texts with these languages.
        wanted: Option → code, the source's first, then the target's; one option may stand for both.

    Raises:
        BadOptions: The tokenizer is multilingual, and a code is missing or unknown.
    """
    codes = language_codes(tokenizer)
    if codes is None:
        return
    for option, code in wanted.items():
        if code not in codes:
            problem = "none is given." if code is None else f"it has no language {code!r}.{_nearest(code, codes)}"
            raise BadOptions(
                f"preprocessor.{option}: the tokenizer ({type(tokenizer).__name__}) marks texts with their language, "
                f"and {problem} {_first_codes(codes)}"
            )
    source, *rest = wanted.values()
    tokenizer.src_lang = source
    tokenizer.tgt_lang = rest[0] if rest else source


def _nearest(code: str, codes: Collection[str]) -> str:
    """Suggest the code that begins like this one, or else the nearest: `en_XX` for `en`."""
    for known in codes:
        if code and known.lower().startswith(code.lower()):
            return f" Did you mean {known!r}?"
    return did_you_mean(code, codes)


def _first_codes(codes: Collection[str]) -> str:
    few = sorted(codes)[:10]
    more = f" and {len(codes) - len(few)} more" if len(codes) > len(few) else ""
    return f"It has: {', '.join(few)}{more}."
