"""A model whose outputs a graph computes behaves as one of transformers."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering, GenerationConfig
from transformers.modeling_outputs import QuestionAnsweringModelOutput
from transformers.utils.generic import find_labels

from finetune.errors import BadRecipe, Incompatible, UntrustedCode
from finetune_export import runtime


class Runner:
    """Keeps what it was given."""

    def __call__(self, **given: Any) -> QuestionAnsweringModelOutput:
        self.given = given
        return QuestionAnsweringModelOutput(start_logits=given["input_ids"].float())


def built(inputs: tuple[str, ...], architecture: str = "BertForQuestionAnswering") -> tuple[Any, Runner]:
    runner = Runner()
    graph = runtime._Graph("model", runner, inputs)
    config = BertConfig(architectures=[architecture])
    return runtime.build(config, GenerationConfig(), {"model": graph}), runner


IDS = torch.tensor([[1, 2]])


def test_it_is_of_the_class_and_asks_for_no_answers() -> None:
    model, _ = built(("input_ids",))
    assert isinstance(model, BertForQuestionAnswering) and not model.training
    own, theirs = (inspect.signature(each.forward).parameters for each in (type(model), BertForQuestionAnswering))
    assert set(theirs) - set(own) == {"start_positions", "end_positions"} and set(own) < set(theirs)
    assert find_labels(type(model)) == []  # so a trainer computes no loss
    assert not list(model.parameters()) and model.dtype == torch.float32


def test_answers_and_flags_do_not_reach_the_graph() -> None:
    model, runner = built(("input_ids",))
    model(IDS, start_positions=torch.tensor([0]), return_dict=True)
    assert list(runner.given) == ["input_ids"]


def test_an_input_that_the_graph_does_not_read_is_an_error() -> None:
    model, _ = built(("input_ids",))
    with pytest.raises(Incompatible, match="does not read token_type_ids"):
        model(input_ids=IDS, token_type_ids=IDS)


def test_inputs_that_transformers_makes_itself_are_made() -> None:
    model, runner = built(("input_ids", "attention_mask", "token_type_ids"))
    model(input_ids=IDS)
    assert runner.given["attention_mask"].tolist() == [[1, 1]] and runner.given["token_type_ids"].tolist() == [[0, 0]]


def test_a_class_that_transformers_lacks_is_refused() -> None:
    with pytest.raises(BadRecipe, match="NoSuchModel"):
        built(("input_ids",), "NoSuchModel")


@pytest.mark.parametrize("content", ["", "{}", '{"export_format": "openvino"}'])
def test_a_folder_without_an_onnx_export_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "export.json").write_text(content, encoding="utf-8")
    with pytest.raises(BadRecipe, match="Export again"):
        runtime.load_onnx(tmp_path, None)


def test_what_torch_unpickles_needs_trust(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"anything")
    with pytest.raises(UntrustedCode, match="which torch reads with pickle"):
        runtime.load_pt2(tmp_path, None)
