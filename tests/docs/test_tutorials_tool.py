"""The tool that turns scripts into pages: tried on scripts of a few lines, each run in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import page
import pytest
import tutorials
from cells import parse

INTRO = '"""\n# A title\n\nAn introduction.\n"""\n'


@pytest.fixture
def make(tmp_path):
    """Return a function that writes a tutorial, builds it, and returns its script."""

    def make(code: str, *, name: str = "01_tiny", build: bool = True) -> Path:
        script = tmp_path / f"{name}.py"
        script.write_text(INTRO + code, encoding="utf-8")
        if build:
            tutorials.build(script)
        return script

    return make


def text_of(script: Path) -> str:
    return tutorials.body(script.with_suffix(".md"))


def test_a_script_is_split_into_prose_and_code():
    cells = parse(INTRO + "# %%\n# ## Head\n#\n# Prose.\n\nx = 1  # a comment\n\n\n# %% hide\nassert x\n")
    assert [(cell.text, cell.code, cell.line) for cell in cells] == [
        ("# A title\n\nAn introduction.", "", 1),
        ("## Head\n\nProse.", "x = 1  # a comment", 11),
        ("", "assert x", 15),
    ]
    assert [sorted(cell.words) for cell in cells] == [[], [], ["hide"]]


def test_a_marker_inside_a_string_opens_no_cell():
    cells = parse(INTRO + '# %%\nx = """\n# %%\n"""\n')
    assert len(cells) == 2
    assert cells[1].code == 'x = """\n# %%\n"""'


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\n", "line 1: a tutorial begins with a docstring"),
        ('"""No title."""\n', "line 1: a tutorial begins with a docstring"),
        (INTRO + "\nx = 1\n# %%\n", "line 7: code before the first"),
        (INTRO + "x = 1\n", "line 6: code before the first"),
        (INTRO + "# %% hidden\nx = 1\n", "line 6: '# %% hidden'; only hide, varies may follow"),
    ],
)
def test_a_script_that_is_no_tutorial_is_refused_with_its_line(source, message):
    with pytest.raises(SyntaxError, match=message):
        parse(source)


def test_what_a_cell_prints_stands_under_it_whoever_printed_it(make):
    script = make(
        "# %%\n# Prose.\n\nimport os, subprocess, sys\nprint('from print')\nsys.stdout.flush()\n"
        "os.write(1, b'from the descriptor\\n')\nsubprocess.run(['echo', 'from a child'])\n"
        "print('unseen', file=sys.stderr)\n"
    )
    after = text_of(script).partition("subprocess.run")[2]
    assert "``` { .text .no-copy }\nfrom print\nfrom the descriptor\nfrom a child\n```" in after
    assert after.count("unseen") == 1  # in the code, not in the output


def test_a_hidden_cell_runs_and_is_not_shown(make):
    text = text_of(make("# %%\nx = 1\n\n# %% hide\nx += 1\nprint('secret')\n\n# %%\nprint('x is', x)\n"))
    assert "x is 2" in text
    assert "secret" not in text
    assert "x += 1" not in text


def test_the_page_of_an_empty_cell_has_no_output(make):
    assert "ft-output" not in text_of(make("# %%\nx = 1\n"))


def test_a_printed_table_becomes_a_table_and_the_rest_stays_text(make):
    text = text_of(make("# %%\nprint('before')\nprint('| a | b |\\n|---|--:|\\n| 1 | 2 |')\nprint('after')\n"))
    output = text.partition('<div class="ft-output" markdown>')[2]
    assert "\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n``` { .text .no-copy }\nafter\n```" in output
    assert "``` { .text .no-copy }\n| no table\n```\n" in text_of(make("# %%\nprint('| no table')\n"))


def test_code_that_prints_a_fence_stays_inside_its_own(make):
    text = text_of(make("# %%\nprint('```\\nfenced\\n```')\n"))
    assert "```` { .text .no-copy }\n```\nfenced\n```\n````" in text


def test_an_overwritten_progress_bar_leaves_its_last_state():
    assert page.clean(" 10%|#  |\r100%|###|\r\nnext\x1b[31m red\x1b[0m\n\n") == "100%|###|\nnext red"


def test_a_class_of_a_tutorial_can_be_pickled_and_its_source_found(make):
    """As in `python script.py`: both look in the module `__main__`."""
    text = text_of(
        make(
            "# %%\nimport inspect, pickle\n\nclass Ship:\n    'A ship.'\n\n"
            "# %%\nagain = pickle.loads(pickle.dumps(Ship()))\n"
            "print(type(again).__name__, len(inspect.getsource(Ship).splitlines()))\n"
        )
    )
    assert "\nShip 2\n" in text


def test_a_tutorial_does_not_inherit_the_recorder_s_future_imports(make):
    assert "\nint\n" in text_of(make("# %%\ndef f(x: int): ...\nprint(f.__annotations__['x'].__name__)\n"))


def test_a_future_import_holds_in_later_cells(make):
    code = "# %%\nfrom __future__ import annotations\n\n# %%\ndef f(x: Nowhere): ...\nprint(f.__annotations__)\n"
    assert "{'x': 'Nowhere'}" in text_of(make(code))


FIGURE = """# %%
import matplotlib.pyplot as plt
figure, axes = plt.subplots()
axes.bar([0], [1], color="#ff0000")
axes.text(0, 0.5, "chosen", color="#000000")
axes.set(title="A bar [1]", xlabel="x", ylabel="y")
"""


def test_a_figure_is_saved_in_two_inks_and_closed(make):
    script = make(FIGURE + "\n# %%\nprint(len(plt.get_fignums()), 'open')\n")
    text = text_of(script)
    assert "![A bar 1](01_tiny/01-1-light.png#only-light)\n\n![A bar 1](01_tiny/01-1-dark.png#only-dark)" in text
    assert "\n0 open\n" in text

    from matplotlib.image import imread

    light, dark = (imread(script.with_suffix("") / f"01-1-{mode}.png") for mode in ("light", "dark"))
    assert light[0, 0, 3] == dark[0, 0, 3] == 0  # no ground of its own
    assert grey(light) == {26, 0}  # the ink of light pages, and the black that was chosen
    assert grey(dark) == {226, 0}
    for picture in (light, dark):
        red = (picture == np.array([1, 0, 0, 1], dtype=picture.dtype)).all(axis=-1)
        assert red.mean() > 0.1


def grey(picture) -> set[int]:
    """Return the levels of the greys that fill at least a dozen opaque pixels; an ink's blue is a little off."""
    red, green, _, alpha = np.rint(picture * 255).astype(int).transpose(2, 0, 1)
    levels, counts = np.unique(red[(alpha == 255) & (abs(red - green) <= 2)], return_counts=True)
    return {int(level) for level, count in zip(levels, counts, strict=True) if count >= 12}


def test_the_same_script_makes_the_same_bytes(make):
    script = make(FIGURE)
    first = {path.name: path.read_bytes() for path in script.with_suffix("").iterdir()}
    tutorials.build(script)
    assert {path.name: path.read_bytes() for path in script.with_suffix("").iterdir()} == first


def test_pictures_that_are_no_longer_drawn_are_removed(make):
    make(FIGURE)
    assert not make("# %%\nprint(1)\n").with_suffix("").exists()


def test_a_failing_tutorial_leaves_the_old_page_and_pictures_and_shows_only_its_own_lines(make):
    script = make(FIGURE)
    before = {path: path.read_bytes() for path in script.parent.rglob("*.*") if path != script}
    make(FIGURE + "\n# %%\nprint('fine')\n\n1 / 0\n", build=False)
    with pytest.raises(tutorials.TutorialFailed, match="failed:") as caught:
        tutorials.build(script)
    assert "line 16, in <module>" in str(caught.value)
    assert "    1 / 0" in str(caught.value)
    assert "recorder.py" not in str(caught.value)
    assert {path: path.read_bytes() for path in before} == before


def test_a_tutorial_that_leaves_early_has_not_run(make):
    script = make("# %%\nimport sys\nsys.exit(0)\n\n# %%\nprint('never')\n", build=False)
    with pytest.raises(tutorials.TutorialFailed, match="left before its last cell"):
        tutorials.build(script)


def test_a_killed_tutorial_is_said_to_be_killed(make):
    script = make("# %%\nimport os\nos.kill(os.getpid(), 9)\n", build=False)
    with pytest.raises(tutorials.TutorialFailed, match="killed by signal 9"):
        tutorials.build(script)


def test_a_tutorial_that_hangs_is_stopped(make, monkeypatch):
    monkeypatch.setattr(tutorials, "LONGEST", 1)
    with pytest.raises(tutorials.TutorialFailed, match="longer than 1 s"):
        make("# %%\nimport time\ntime.sleep(60)\n")


def test_a_page_is_stale_for_whatever_it_was_made_from(make):
    script = make(FIGURE)
    page_file, picture = script.with_suffix(".md"), script.with_suffix("") / "01-1-dark.png"
    assert tutorials.stale(script) == ""

    source = script.read_bytes()
    script.write_bytes(source.replace(b"\n", b"\r\n"))
    assert tutorials.stale(script) == ""  # git's line ends are no change
    script.write_bytes(source + b"# more\n")
    assert "01_tiny.py has changed" in tutorials.stale(script)
    script.write_bytes(source)

    (script.parent / "data").mkdir()
    (script.parent / "data" / "rows.csv").write_text("a,b\n")
    assert "has changed" in tutorials.stale(script)
    (script.parent / "data" / "rows.csv").unlink()

    page_file.write_text(page_file.read_text().replace("An introduction", "An Introduction"))
    assert "edited by hand" in tutorials.stale(script)
    page_file.write_text(page_file.read_text().replace("An Introduction", "An introduction"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert "edited by hand" in tutorials.stale(script)

    page_file.write_text("# By hand\n")
    assert "not made by this tool" in tutorials.stale(script)
    page_file.unlink()
    assert tutorials.stale(script) == "01_tiny.md is missing"


def test_no_byte_moves_between_two_data_files_unseen(make):
    script = make("# %%\n", build=False)
    data = script.parent / "data"
    data.mkdir()
    keys = set()
    for first, second in (("ab", "c"), ("a", "bc")):
        (data / "1.csv").write_text(first)
        (data / "2.csv").write_text(second)
        keys.add(tutorials.key(script))
    assert len(keys) == 2


def test_the_command_runs_what_changed_checks_and_reports_every_failure(make, capsys):
    good, folder = make("# %%\nprint(1)\n", build=False), make("# %%\n", build=False).parent
    make("# %%\n1 / 0\n", name="02_bad", build=False)
    assert tutorials.main(["--check"], folder=folder) == 1
    assert capsys.readouterr().out == (
        "01_tiny.md is missing\n02_bad.md is missing\nrun: python docs/_build/tutorials.py\n"
    )
    assert tutorials.main([], folder=folder) == 1
    printed = capsys.readouterr()
    assert "01_tiny: made 01_tiny.md" in printed.out
    assert "ZeroDivisionError" in printed.err
    assert tutorials.main(["01_tiny"], folder=folder) == 0
    assert capsys.readouterr().out == "01_tiny: up to date\n"
    assert tutorials.main(["01_tiny", "--force"], folder=folder) == 0
    assert tutorials.main(["--check", "01_tiny"], folder=folder) == 0
    good.unlink()
    assert tutorials.main(["--check"], folder=folder) == 1
    assert "01_tiny.md has no script" in capsys.readouterr().out


def test_a_misspelt_tutorial_is_answered_with_those_there_are(make, capsys):
    folder = make("# %%\n", build=False).parent
    with pytest.raises(SystemExit):
        tutorials.main(["1_tiny"], folder=folder)
    assert "there are: 01_tiny" in capsys.readouterr().err
