"""The data of Axolotl's YAML: types of data sets → columns, converters and chat templates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune.kit import Conversion
from finetune_import import texts

FORMATS = {"json": "json", "jsonl": "jsonl", "csv": "csv", "parquet": "parquet", "arrow": "arrow", "tsv": "tsv"}

TYPES: Mapping[str, str] = {
    "alpaca": "`converter: alpaca`, with Alpaca's prompt as the chat template",
    "alpaca:chat, alpaca:phi, alpaca:chatml": "the same, with the prompt of that style",
    "alpaca_w_system.load": "the same; the column system is read",
    "chat_template": "messages; `field_messages` is renamed; turns of from and value get `converter: sharegpt`",
    "sharegpt": "`converter: sharegpt`",
    "completion": "the task causal-language-modeling; `field` is renamed to text",
    "a mapping with field_instruction, field_output, format": "`converter: alpaca`, with `format` as the chat template",
    "chat_template.default, chat_template.argilla_chat (rl)": "columns prompt, chosen, rejected",
    "chatml.…, llama3.… (rl): intel, icr, ultra, argilla, argilla_chat, prompt_pairs": "the prompt's column is renamed",
    "bradley_terry.chat_template": "the column input is renamed to prompt",
    "any other": "named, and the columns are left to you",
}
"""Type of a data set → what becomes of it."""

_ALPACA_STYLES = {"alpaca": "instruct", "alpaca:chat": "chat", "alpaca:phi": "phi", "alpaca:chatml": "chatml"}
_PROMPTS = {"intel": "question", "icr": "input", "argilla": "instruction", "prompt_pairs": "prompt", "ultra": "prompt"}
"""How the prompt is called in the rows of a preference type; other types have the prompt in the answers."""

_ROLES = {
    "user": {"human", "user"},
    "assistant": {"gpt", "chatgpt", "assistant", "model"},
    "system": {"system"},
    "tool": {"tool", "observation", "function_response"},
}
"""Role → what the readers of messages here take for it."""
_TRAIN_KEYS = {"weight", "train", "training", "loss"}


@dataclass
class _Form:
    """What the rows of one data set are."""

    columns: dict[str, str] = field(default_factory=dict)
    """Column of the data → that of the task."""
    converter: str | None = None
    template: str | None = None
    """The chat template that the type of the data set brings."""
    loss_on: str | None = None
    conversational: bool | None = None


def convert_data(conversion: Conversion, task: str) -> None:
    """Write the data set of a configuration, and the options of the preprocessor that follow from it.

    Raises:
        BadRecipe: There is no data set.
    """
    rows = [dict(row) for row in conversion.get("datasets", []) if isinstance(row, Mapping)]
    if not rows:
        raise conversion.refuse("datasets", "Axolotl needs at least one data set: a path and a type.")
    conversion.tell("datasets", "mapped")
    forms: list[_Form] = []
    for number, row in enumerate(rows):
        forms.append(_form(conversion, row, f"datasets[{number}]", task))
    if len(rows) == 1:
        _put_source(conversion, ("dataset",), rows[0], forms[0], "datasets[0]")
    else:
        names = _names(rows)
        for number, (name, row) in enumerate(zip(names, rows, strict=True)):
            _put_source(conversion, ("dataset", "mixture", name), row, forms[number], f"datasets[{number}]")
    _put_validation(conversion)
    _put_preprocessor(conversion, forms, task)


def convert_stream(conversion: Conversion) -> None:
    """Write the data set of a pretraining, which is streamed."""
    given = conversion.content["pretraining_dataset"]
    rows = [{"path": given}] if isinstance(given, str) else [dict(row) for row in given]
    conversion.tell("pretraining_dataset", "mapped")
    if len(rows) > 1:
        conversion.tell("pretraining_dataset", "missing", "A mixture is not streamed: only the first data set is here.")
    row = rows[0]
    column = row.pop("text_column", "text")
    form = _Form(columns={} if column == "text" else {column: "text"})
    _put_source(conversion, ("dataset",), row, form, "pretraining_dataset[0]")
    conversion.put("dataset.streaming", True, source="pretraining_dataset")
    conversion.put("dataset.validation_size", 0, note="Axolotl holds out no row of a stream")
    buffer = conversion.get("streaming_multipack_buffer_size")
    if buffer is not None:
        conversion.put("dataset.shuffle_buffer", buffer, source="streaming_multipack_buffer_size")
    if conversion.get("streaming") is not None:
        conversion.tell("streaming", "mapped")
    if conversion.get("max_steps") is None:
        conversion.tell("pretraining_dataset", "missing", "A stream needs training.max_steps.")
    _put_length(conversion, "causal-language-modeling")
    if conversion.get("sample_packing") is not None:
        conversion.put("preprocessor.packing", bool(conversion.content["sample_packing"]), source="sample_packing")


# --- one data set -----------------------------------------------------------------------------------------------------


def _put_source(conversion: Conversion, place: tuple[str, ...], row: Mapping[str, Any], form: _Form, key: str) -> None:
    """Write where the rows of one data set come from."""
    path = str(row.get("path", ""))
    files = row.get("data_files")
    is_local = Path(path).suffix != "" or path.startswith((".", "/", "~")) or path in FORMATS
    if files is not None:
        names = [files] if isinstance(files, str) else list(files)
        if path in FORMATS or is_local or not path:
            conversion.put(
                (*place, "path", "train"), names[0] if len(names) == 1 else names, source=f"{key}.data_files"
            )
        else:
            conversion.put((*place, "path"), path, source=f"{key}.path")
            note = f"Only some files of {path}: download them, and name them in path."
            conversion.tell(f"{key}.data_files", "missing", note)
    else:
        if "://" in path:
            conversion.tell(f"{key}.path", "missing", f"{path}: download the data, and name the file.")
        conversion.put((*place, "path"), path, source=f"{key}.path")
    ds_type = row.get("ds_type")
    if ds_type in FORMATS and (files is not None or is_local) and not path.endswith((".json", ".jsonl", f".{ds_type}")):
        conversion.put((*place, "format"), FORMATS[ds_type], source=f"{key}.ds_type")
    for name in ("name", "revision"):
        if row.get(name):
            conversion.put((*place, name), row[name], source=f"{key}.{name}")
    split = row.get("split") or row.get("train_on_split")
    if split and split != "train":
        plain = re.sub(r"\[.*", "", str(split))
        if plain != split:
            note = f"{split}: a part of a split. Set dataset.limit: {{train: N}}."
            conversion.tell(f"{key}.split", "missing", note)
        if plain != "train":
            conversion.put((*place, "splits"), {"train": plain}, source=f"{key}.split")
    if form.columns:
        conversion.put((*place, "columns"), dict(form.columns), note=f"from the fields of {key}")
    for name in ("shards", "shards_idx", "skip"):
        if row.get(name):
            conversion.tell(f"{key}.{name}", "missing", "Set dataset.limit for a part of the rows.")
    if row.get("temperature") is not None:
        conversion.tell(f"{key}.temperature", "missing", "It belongs to distillation, which there is no task for.")


def _names(rows: list[dict[str, Any]]) -> list[str]:
    """Return a name for each data set of a mixture: the last part of its path, made unique."""
    names: list[str] = []
    for row in rows:
        files = row.get("data_files")
        path = str((files if isinstance(files, str) else files[0]) if files else row.get("path", "data"))
        base = re.sub(r"[^\w-]", "-", Path(path).stem) or "data"
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def _form(conversion: Conversion, row: Mapping[str, Any], key: str, task: str) -> _Form:
    """Return what the rows of a data set are, and say what is different."""
    kind = row.get("type")
    if task in ("dpo", "kto", "reward"):
        form = _preference(conversion, row, key, task)
    elif task == "grpo":
        conversion.tell(
            f"{key}.type", "missing", f"{kind}: a function that makes prompts. Write dataset.path: module:function."
        )
        form = _Form()
    elif isinstance(kind, Mapping):
        form = _user_defined(conversion, kind, key)
    elif kind in _ALPACA_STYLES or str(kind).startswith("alpaca_w_system"):
        style = _ALPACA_STYLES.get(str(kind), "instruct")
        form = _Form(converter="alpaca", template=texts.alpaca(style) or "chatml")
        conversion.tell(
            f"{key}.type", "mapped", "Instruction and input become one message of the user, without 'Input:'."
        )
    elif kind in ("chat_template", None):
        if kind is None:
            conversion.tell(f"{key}.type", "missing", "There is no type. Messages are assumed.")
        form = _messages(conversion, row, key)
    elif str(kind).startswith("sharegpt"):
        form = _Form(converter="sharegpt", template="chatml" if row.get("conversation") == "chatml" else None)
        if row.get("field") and row["field"] != "conversations":
            form.columns[str(row["field"])] = "conversations"
        conversion.tell(f"{key}.type", "mapped")
    elif kind in ("completion", "pretrain"):
        form = _Form(columns={str(row["field"]): "text"} if row.get("field", "text") != "text" else {})
        conversion.tell(f"{key}.type", "mapped")
        if task == "sft":
            conversion.tell(f"{key}.type", "missing", "Texts do not go with chats in one run. Train on them first.")
    else:
        note = f"{kind}: rename the columns to prompt and completion (dataset.columns), or give messages."
        conversion.tell(f"{key}.type", "missing", note)
        form = _Form()
    _tell_rest(conversion, row, key)
    return form


def _messages(conversion: Conversion, row: Mapping[str, Any], key: str) -> _Form:
    """Return the form of messages: as they are, or as ShareGPT writes them."""
    form = _Form()
    names = dict(row.get("message_property_mappings") or {})
    role = names.get("role") or row.get("message_field_role") or "role"
    content = names.get("content") or row.get("message_field_content") or "content"
    column = str(row.get("field_messages") or "messages")
    if (role, content) == ("from", "value"):
        form.converter = "sharegpt"
        target = "conversations"
    else:
        target = "messages"
        if (role, content) != ("role", "content"):
            note = f"Messages with {role} and {content}: rename them to role and content in the data."
            conversion.tell(f"{key}.message_property_mappings", "missing", note)
    if column != target:
        form.columns[column] = target
    others = [name for name in names if name not in ("role", "content")]
    if others:
        note = f"{', '.join(others)}: messages are given to the chat template as they are, with these keys."
        conversion.tell(f"{key}.message_property_mappings", "missing", note)
    tools = row.get("field_tools")
    if tools and tools != "tools":
        form.columns[str(tools)] = "tools"
    for target_role, sources in dict(row.get("roles") or {}).items():
        wrong = [name for name in sources if name not in _ROLES.get(target_role, set())]
        if form.converter is None:
            wrong = [name for name in sources if name != target_role]
        if wrong:
            note = f"{', '.join(wrong)}: rename this role to {target_role} in the data, if it occurs."
            conversion.tell(f"{key}.roles", "missing", note)
    trained = row.get("roles_to_train")
    if trained is not None and set(trained) != {"assistant"}:
        is_all = {"user", "assistant"} <= set(trained) or {"human", "gpt"} <= set(trained)
        if set(trained) <= _ROLES["assistant"]:
            pass
        elif is_all:
            form.loss_on = "all"
        else:
            note = f"{trained}: the loss is on the turns of the assistant, on the last one, or on all."
            conversion.tell(f"{key}.roles_to_train", "missing", note)
    if row.get("train_on_eos") not in (None, "turn"):
        note = f"{row['train_on_eos']}: the end of each trained turn is trained, as with `turn`."
        conversion.tell(f"{key}.train_on_eos", "missing", note)
    if row.get("drop_system_message"):
        conversion.tell(f"{key}.drop_system_message", "missing", "Remove system messages from the data.")
    thinking = row.get("field_thinking")
    if thinking and thinking != row.get("template_thinking_key", "reasoning_content"):
        note = f"Rename {thinking} to {row.get('template_thinking_key', 'reasoning_content')} in the messages."
        conversion.tell(f"{key}.field_thinking", "missing", note)
    flag = row.get("message_field_training")
    if flag and flag not in _TRAIN_KEYS:
        conversion.tell(f"{key}.message_field_training", "missing", f"Rename {flag} to train in the messages.")
    if row.get("message_field_training_detail"):
        conversion.tell(f"{key}.message_field_training_detail", "missing", "A turn is trained whole or not at all.")
    form.template = _template(conversion, row, key)
    return form


def _user_defined(conversion: Conversion, kind: Mapping[str, Any], key: str) -> _Form:
    """Return the form of a type that is a mapping of fields and formats."""
    form = _Form(converter="alpaca")
    for name, target in (
        ("instruction", "instruction"),
        ("input", "input"),
        ("output", "output"),
        ("system", "system"),
    ):
        column = kind.get(f"field_{name}")
        if column and column != target:
            form.columns[str(column)] = target
    pattern = kind.get("no_input_format") or kind.get("format")
    if pattern and "{instruction}" in pattern and "{input}" not in pattern:
        form.template = texts.template(str(pattern), system=str(kind.get("system_format") or "{system}"))
    elif pattern:
        note = "format joins instruction and input in its own way: make a column prompt in the data."
        conversion.tell(f"{key}.type", "missing", note)
    if kind.get("format") and "{input}" in kind["format"] and form.template:
        note = "Instruction and input become one message; the format for rows without input is used."
        conversion.tell(f"{key}.type", "mapped", note)
    if kind.get("system_prompt"):
        conversion.tell(f"{key}.type", "missing", "system_prompt: put the system message into the data.")
    conversion.tell(f"{key}.type", "mapped")
    return form


def _preference(conversion: Conversion, row: Mapping[str, Any], key: str, task: str) -> _Form:
    """Return the form of pairs, or of answers with labels."""
    kind = row.get("type")
    form = _Form()
    if isinstance(kind, Mapping):
        for name in ("prompt", "chosen", "rejected", "completion", "label"):
            column = kind.get(f"field_{name}")
            if column and column != name:
                form.columns[str(column)] = name
        for name in ("prompt_format", "chosen_format", "rejected_format", "completion_format"):
            if kind.get(name) not in (None, "{" + name.removesuffix("_format") + "}"):
                note = f"{name}: texts are joined as they are. Write them so in the data, or give messages."
                conversion.tell(f"{key}.type", "missing", note)
        conversion.tell(f"{key}.type", "mapped")
        return form
    scheme, _, name = str(kind or "").partition(".")
    if scheme == "chat_template" and name in ("default", ""):
        names = dict(row.get("message_property_mappings") or {})
        if names.get("role") == "from":
            form.converter = "sharegpt"
        column = str(row.get("field_messages") or "messages")
        if column != "prompt":
            form.columns[column] = "prompt"
        for each in ("chosen", "rejected"):
            if row.get(f"field_{each}", each) != each:
                form.columns[str(row[f"field_{each}"])] = each
        form.template = _template(conversion, row, key)
        form.conversational = True
    elif scheme == "bradley_terry":
        form.columns = {"input": "prompt"}
        form.conversational = True
        form.template = _template(conversion, row, key)
        conversion.tell(
            f"{key}.type", "missing", "A column system is not read: make it the first message of the prompt."
        )
    elif scheme in ("chatml", "llama3", "zephyr", "chat_template"):
        column = _PROMPTS.get(name, "")
        if name == "default" or (scheme == "zephyr"):
            note = "The prompt's column is prompt, input, question or instruction there. Name yours in dataset.columns."
            conversion.tell(f"{key}.type", "missing", note)
        elif column and column != "prompt":
            form.columns[column] = "prompt"
        elif not column and not name.startswith("argilla"):
            conversion.tell(f"{key}.type", "missing", f"{kind}: name the columns in dataset.columns.")
        form.template = "chatml" if scheme == "chatml" else None
        if scheme != "chatml":
            conversion.tell(f"{key}.type", "mapped", "The chat template is the tokenizer's own.")
        form.conversational = True
    else:
        conversion.tell(f"{key}.type", "missing", f"{kind}: name the columns in dataset.columns.")
    conversion.tell(f"{key}.type", "mapped")
    _tell_rest(conversion, row, key)
    return form


def _template(conversion: Conversion, row: Mapping[str, Any], key: str) -> str | None:
    """Return the chat template of a data set; None for the tokenizer's own."""
    own = row.get("chat_template") or row.get("chat_template_jinja")
    place = f"{key}.chat_template" if own else "chat_template"
    name = row.get("chat_template") or (None if own else conversion.get("chat_template"))
    jinja = row.get("chat_template_jinja") or conversion.get("chat_template_jinja")
    if jinja and name in (None, "jinja"):
        if conversion.get("chat_template_jinja") is not None:
            conversion.tell("chat_template_jinja", "mapped")
        if name == "jinja" and not own:
            conversion.tell("chat_template", "mapped")
        return str(jinja)
    if name is None or str(name) == "tokenizer_default":
        if name is not None:
            conversion.tell(place, "unneeded", "The tokenizer's own template is the default.")
        return None
    plain = str(name).removeprefix("tokenizer_default_fallback_")
    if plain == "chatml":
        conversion.tell(place, "mapped")
        return "chatml"
    note = f"{name}: the tokenizer's own template is used. If it has none, set preprocessor.chat_template."
    conversion.tell(place, "mapped", note)
    return None


_TOLD = {
    "path", "type", "split", "train_on_split", "name", "revision", "data_files", "ds_type", "field", "field_messages",
    "field_chosen", "field_rejected", "field_tools", "field_thinking", "template_thinking_key", "roles", "shards",
    "message_property_mappings", "message_field_role", "message_field_content", "message_field_training", "shards_idx",
    "message_field_training_detail", "roles_to_train", "train_on_eos", "drop_system_message", "chat_template", "skip",
    "chat_template_jinja", "conversation", "temperature", "text_column",
}  # fmt: skip
_UNNEEDED = {"preprocess_shards", "trust_remote_code", "input_format", "split_thinking"}


def _tell_rest(conversion: Conversion, row: Mapping[str, Any], key: str) -> None:
    """Report the keys of a data set that nothing reads."""
    for name in row:
        if name in _TOLD or row[name] in (None, "", [], {}, False):
            continue
        if name in _UNNEEDED:
            conversion.tell(f"{key}.{name}", "unneeded", "Nothing here depends on it.")
        else:
            conversion.tell(f"{key}.{name}", "missing", f"The importer does not know this key of {conversion.tool}.")


# --- all data sets ----------------------------------------------------------------------------------------------------


def _put_validation(conversion: Conversion) -> None:
    tests = conversion.get("test_datasets")
    size = conversion.get("val_set_size", 0)
    place = "dataset.validation_size"
    if tests:
        conversion.tell("test_datasets", "mapped")
        files = [str(found) for row in tests for found in _files(row)]
        path = conversion.recipe["dataset"].get("path")
        if files and isinstance(path, str) and Path(path).suffix:
            conversion.put("dataset.path", {"train": path, "validation": files if len(files) > 1 else files[0]},
                           source="test_datasets")  # fmt: skip
        elif files and isinstance(path, Mapping):
            conversion.put("dataset.path.validation", files if len(files) > 1 else files[0], source="test_datasets")
        elif isinstance(path, str) and [row.get("path") for row in tests] == [path] and tests[0].get("split"):
            known = conversion.recipe["dataset"].get("splits", {})
            conversion.put("dataset.splits", {**known, "validation": tests[0]["split"]}, source="test_datasets")
        else:
            note = "Write train and validation as files: dataset.path: {train: …, validation: …}."
            conversion.tell("test_datasets", "missing", note)
        conversion.put(place, 0, note="Axolotl holds out no further rows")
    elif size and size >= 1:
        note = f"{size} rows there. Here it is a share: {size} divided by the number of rows."
        conversion.tell("val_set_size", "missing", note)
    elif conversion.get("val_set_size") is None:
        conversion.put(place, 0, note="val_set_size is not set, so Axolotl holds out nothing")
    else:
        conversion.put(place, size, source="val_set_size")
    if conversion.get("dataset_exact_deduplication"):
        note = "Repeated rows stay. `finetune check` counts them; remove them from the data."
        conversion.tell("dataset_exact_deduplication", "missing", note)
    if conversion.get("streaming"):
        note = "Set dataset.streaming: true and training.max_steps, for one data set of columns that need no split."
        conversion.tell("streaming", "missing", note)


def _files(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files of a data set."""
    files = row.get("data_files")
    if isinstance(files, str):
        yield files
    elif files:
        yield from files
    elif Path(str(row.get("path", ""))).suffix:
        yield str(row["path"])


def _put_length(conversion: Conversion, task: str) -> None:
    length = conversion.get("sequence_len")
    is_block = task == "causal-language-modeling"
    note = "" if is_block else "Axolotl drops longer rows; here their end is cut, and the data report counts it"
    if length is None:
        conversion.put("preprocessor.max_length", 512, note="the default of Axolotl")
    else:
        conversion.put("preprocessor.max_length", length, source="sequence_len", note=note)
    if conversion.get("excess_length_strategy") is not None:
        conversion.tell("excess_length_strategy", "mapped", "Longer rows are cut, and counted.")


def _put_preprocessor(conversion: Conversion, forms: list[_Form], task: str) -> None:
    """Write what the preprocessor needs to know about the rows."""
    _put_length(conversion, task)
    converters = {form.converter for form in forms}
    if len(converters) > 1:
        named = ", ".join(sorted(str(name or "none") for name in converters))
        note = f"The data sets have several forms (converters: {named}), and a run reads one. Bring them into one form."
        conversion.tell("datasets", "missing", note)
    converter = forms[0].converter
    if converter is not None:
        conversion.put("preprocessor.converter", converter, note="from datasets[0].type")
    found = list(dict.fromkeys(form.template for form in forms))
    if len(found) > 1:
        conversion.tell("datasets", "missing", "The data sets have several chat templates; the first is used for all.")
    if found[0] is not None:
        conversion.put(
            "preprocessor.chat_template", found[0], note="from datasets[0].type" if converter == "alpaca" else ""
        )
    if conversion.get("chat_template") is not None and "chat_template" not in conversion.outcomes:
        conversion.tell("chat_template", "unneeded", "Axolotl does not use it for this type of data either.")
    if conversion.get("train_on_inputs"):
        conversion.put("preprocessor.loss_on", "all", source="train_on_inputs")
    elif any(form.loss_on == "all" for form in forms):
        conversion.put("preprocessor.loss_on", "all", note="roles_to_train")
    if conversion.content.get("train_on_inputs") is False:
        conversion.tell("train_on_inputs", "unneeded", "The prompt is never trained by default.")
    if forms[0].conversational and task in ("dpo", "kto", "reward", "grpo"):
        conversion.put("preprocessor.conversational", True, note="texts become turns of a chat, as there")
    packing = conversion.get("sample_packing")
    if packing is None:
        return
    if task == "sft" or (task == "causal-language-modeling"):
        conversion.put("preprocessor.packing", bool(packing), source="sample_packing")
    elif packing:
        conversion.tell("sample_packing", "missing", "Pairs and answers are not packed.")
    else:
        conversion.tell("sample_packing", "unneeded", "It is off.")
