"""The first step of each stage of gradual unfreezing."""

from __future__ import annotations

from finetune_freeze.unfreeze import even_schedule, interval_schedule, stage_at


def test_an_even_schedule_has_every_stage_even_in_a_short_run() -> None:
    for stages in range(1, 15):
        for steps in range(1, 40):
            begins = even_schedule(stages, steps=steps)
            assert begins[0] == 0 and begins == sorted(begins) and begins[-1] < steps
            lengths = [stop - start for start, stop in zip(begins, [*begins[1:], steps], strict=True)]
            assert max(lengths) - min(lengths) <= 1


def test_a_stage_begins_with_the_first_step_after_its_interval() -> None:
    assert interval_schedule(4, interval=1, steps_per_unit=5) == [0, 5, 10, 15]
    assert interval_schedule(4, interval=0.5, steps_per_unit=5) == [0, 3, 5, 8]
    # 3 × 0.1 is more than 0.3, in floating point
    assert interval_schedule(4, interval=0.1, steps_per_unit=10) == [0, 1, 2, 3]
    assert interval_schedule(3, interval=20, steps_per_unit=1) == [0, 20, 40]


def test_of_stages_that_begin_together_the_last_counts() -> None:
    assert [stage_at(step, [0, 0, 1, 1]) for step in range(3)] == [1, 3, 3]
