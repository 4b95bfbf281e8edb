"""When stages begin."""

from __future__ import annotations

from finetune_freeze.schedule import evenly, regularly, stage_at


def test_stages_spread_evenly_leave_none_out_however_short_the_run() -> None:
    for stages in range(1, 15):
        for steps in range(1, 40):
            begins = evenly(stages, steps=steps)
            assert begins[0] == 0 and begins == sorted(begins) and begins[-1] < steps
            lengths = [stop - start for start, stop in zip(begins, [*begins[1:], steps], strict=True)]
            assert max(lengths) - min(lengths) <= 1


def test_a_stage_begins_with_the_first_step_that_is_not_before_its_time() -> None:
    assert regularly(4, every=1, steps_per_unit=5) == [0, 5, 10, 15]
    assert regularly(4, every=0.5, steps_per_unit=5) == [0, 3, 5, 8]
    assert regularly(4, every=0.1, steps_per_unit=10) == [0, 1, 2, 3]  # 3 × 0.1 is more than 0.3, in floating point
    assert regularly(3, every=20, steps_per_unit=1) == [0, 20, 40]


def test_stages_that_begin_together_are_passed_at_once() -> None:
    assert [stage_at(step, [0, 0, 1, 1]) for step in range(3)] == [1, 3, 3]
