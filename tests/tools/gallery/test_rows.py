"""The file of rows: what it may say, and that every row of ours names a recipe that exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.data import DataError
from tools.gallery.rows import Row, read_gallery
from tools.gallery.runs import recipe_of

GALLERY = read_gallery()
HEAD = "schema: streamguard.gallery/1\nrows:\n"
ROW = "- {name: a, title: A, group: G, recipe: a/recipe.yaml}\n"


def _read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").mkdir(exist_ok=True)
    (tmp_path / "a" / "recipe.yaml").write_text("system: a\n")
    file = tmp_path / "rows.yaml"
    file.write_text(text)
    read_gallery(file, tmp_path)


@pytest.mark.parametrize("row", GALLERY.rows, ids=[row.name for row in GALLERY.rows])
def test_every_row_of_the_table_changes_only_what_its_recipe_has(row: Row) -> None:
    recipe = recipe_of(row)
    assert recipe["system"]
    for dotted, value in row.changes.items():
        section, key = dotted.split(".")
        assert recipe[section][key] == value


def test_rows_of_the_table_have_titles_of_their_own_in_their_group() -> None:
    shown = [(row.group, row.title) for row in GALLERY.rows]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (ROW + ROW, "rows[1].name: 'a': used by one row only"),
        (ROW.replace("name: a,", "name: A b,"), "rows[0].name"),
        (ROW.replace("a/recipe", "b/recipe"), "rows[0].recipe"),
        (ROW.replace("title: A,", ""), "rows[0].title"),
        (ROW.replace("}", ", colour: red}"), "rows[0].colour"),
        (ROW.replace("}", ", init: later}"), "rows[0].init: 'later': the name of a row above"),
        (ROW.replace("}", ", epochs: 0}"), "rows[0].epochs"),
        (ROW.replace("}", ", set: [1]}"), "rows[0].set"),
    ],
)
def test_a_wrong_row_is_named_with_what_is_allowed(tmp_path: Path, rows: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, HEAD + rows)
    assert says in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"streamguard\.gallery/1"):
        _read(tmp_path, "rows: []\n")
