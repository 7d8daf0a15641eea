"""A result as Markdown: numbers to three digits, intervals beside them, words where none is."""

import pytest
from simulators.tables import result, section

from couchside.benchmarks.tables import render
from couchside.benchmarks.tables.charts import draw
from couchside.benchmarks.tables.table import Cell, Column, Row, Section


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (123456.7, "123,457"),
        (61.04, "61.0"),
        (1.234, "1.23"),
        (0.15214, "0.1521"),
        (0.00012, "0.0001"),
        (2.7e-7, "2.7e-07"),
        (-3.456, "-3.46"),
    ],
)
def test_number_has_as_many_digits_as_mean_something(value, shown):
    assert render.number(value) == shown


def test_cell_shows_its_interval_where_there_is_one():
    assert render.cell(Cell(1.5, 1.25, 2.0)) == "1.50 [1.25, 2.00]"
    assert render.cell(Cell(1.5, 1.5, 1.5)) == "1.50"
    assert render.cell(Cell(text="does not install here: no wheel")).startswith("does not install")
    assert render.cell(Cell()) == "–"


def test_table_shows_question_command_rows_caveats_and_versions():
    text = "\n".join(render.table(result()))
    assert "*who is faster?*" in text
    assert "| **ours**" in text
    assert "| peer " in text
    assert "- not on ARM" in text
    assert "peer 1.2.3" in text


def test_grid_lines_up_and_keeps_bars_in_words_apart():
    lines = list(render.grid(("a", "b"), [("x|y", "1"), ("z", "22")]))
    assert len({len(line) for line in lines}) == 1
    assert "x\\|y" in lines[2]


def test_row_with_a_cell_too_few_is_refused():
    with pytest.raises(ValueError, match="broken has 1 cells"):
        Section("s", "", (Column("a"), Column("b")), (Row("broken", (Cell(1.0),)),))


def test_chart_of_a_column_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="no column 'z'"):
        Section("s", "", (Column("a"),), (), chart="z")


def test_spread_shows_the_runs_that_disagree():
    assert render.spread((1.0, 2.0, 30.0)) == "2.00 [1.00, 30.0]"
    assert render.spread((5.0,)) == "5.00"
    assert render.spread((5.0, 5.0)) == "5.00"
    assert render.spread(()) == "–"


def test_section_of_the_simulator_is_drawn_alike_twice(tmp_path):
    for name in ("a.svg", "b.svg"):
        assert draw(section(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"ours" in (tmp_path / "a.svg").read_bytes()
