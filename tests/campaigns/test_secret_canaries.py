"""A few commands with credentials around them, and the fault that the campaign must notice."""

from __future__ import annotations

import secret_canaries as campaign

WANTED = {
    "train absent.yaml", "check, RuntimeError", "check, OSError",
    f"check with model.options.token in the recipe: {campaign.GIVEN}",
    "train with dataset.path as an argument", "train recipe.yaml --quiet", f"show {campaign.KEY}",
}  # fmt: skip


def test_no_credential_is_printed_or_written() -> None:
    *found, control = campaign.campaign(lambda trial: trial.name in WANTED)
    assert {one.trial for one in found} == WANTED
    for one in found:
        assert not one.places, one
    assert control.places == ["output"]
