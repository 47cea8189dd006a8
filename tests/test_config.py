import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertsmith.config import Part, from_dict, override, require, to_dict
from bertsmith.errors import ConfigError, UsageError


class Shape(Part):
    """A plug point."""


@dataclass(frozen=True, kw_only=True)
class Circle(Shape, kind="circle"):
    radius: float

    def __post_init__(self) -> None:
        require(self.radius > 0, "radius", f"expected more than 0, got {self.radius}")


@dataclass(frozen=True, kw_only=True)
class Square(Shape, kind="square"):
    side: int = 3


@dataclass(frozen=True, kw_only=True)
class Group(Shape, kind="group"):
    members: tuple[Shape, ...] = ()


class Color(Part):
    """Another plug point, with a kind of the same name."""


@dataclass(frozen=True)
class CircleColor(Color, kind="circle"):
    pass


@dataclass(frozen=True, kw_only=True)
class Page:
    name: str
    shapes: tuple[Shape, ...] = ()
    size: tuple[int, int] = (7, 12)
    paper: Literal["white", "grey"] = "white"
    margin: float | None = None
    title: str | int = "none"
    named: dict[str, Shape] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    draft: bool = False


@dataclass(frozen=True, kw_only=True)
class Book:
    pages: tuple[Page, ...]


PAGE = Page(
    name="first",
    shapes=(Circle(radius=1.5), Group(members=(Square(side=5), Group()))),
    margin=0.25,
    named={"a": Square()},
    notes={"x": "y"},
)


def test_round_trip_through_json() -> None:
    data = json.loads(json.dumps(to_dict(Book(pages=(PAGE,)))))
    assert data["pages"][0]["shapes"][1]["members"][0] == {"kind": "square", "side": 5}
    assert from_dict(Book, data) == Book(pages=(PAGE,))


def test_defaults_are_filled_in() -> None:
    page = from_dict(Page, {"name": "x", "shapes": [{"kind": "square"}]})
    assert page == Page(name="x", shapes=(Square(side=3),))
    assert "draft" in to_dict(page)  # files are complete


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nmae": "x"}, "pages.1.nmae: there is no such key. Did you mean 'name'? Allowed: draft, margin, name"),
        ({"name": 3}, "pages.1.name: expected a value of type str, got 3"),
        ({"draft": 1}, "pages.1.draft: expected a value of type bool, got 1"),
        ({"size": [1, True]}, "pages.1.size.1: expected a value of type int, got True"),
        ({"size": [1, 2.0]}, "pages.1.size.1: expected a value of type int, got 2.0"),
        ({"size": [1, 2, 3]}, "pages.1.size: expected a list of 2, got [1, 2, 3]"),
        ({"size": "12"}, "pages.1.size: expected a list, got '12'"),
        ({"paper": "whit"}, "pages.1.paper: 'whit' is not allowed. Did you mean 'white'? Allowed: grey, white."),
        ({"margin": "wide"}, "pages.1.margin: expected a value of type float, got 'wide'"),
        ({"margin": False}, "pages.1.margin: expected a value of type float, got False"),
        ({"title": []}, "pages.1.title: expected str or int, got []"),
        ({"notes": {"a": 1}}, "pages.1.notes.a: expected a value of type str, got 1"),
        ({"notes": []}, "pages.1.notes: expected an object, got []"),
        ({"shapes": {"kind": "square"}}, "pages.1.shapes: expected a list"),
        ({"shapes": [{"side": 3}]}, 'pages.1.shapes.0: expected an object with a "kind"'),
        (
            {"shapes": [{"kind": "sqare"}]},
            "pages.1.shapes.0.kind: no part is called 'sqare'. Did you mean 'square'? Allowed: circle, group, square.",
        ),
        ({"shapes": [{"kind": "circle"}]}, "pages.1.shapes.0.radius: this key is required and missing"),
        ({"shapes": [{"kind": "circle", "radius": -1}]}, "pages.1.shapes.0.radius: expected more than 0, got -1.0"),
        (
            {"shapes": [{"kind": "square", "radius": 1}]},
            "pages.1.shapes.0.radius: there is no such key. Allowed: side.",
        ),
        ({"named": {"b": {"kind": "group", "members": [3]}}}, "pages.1.named.b.members.0: expected an object"),
    ],
)
def test_errors_name_the_path_and_what_is_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict(Book, {"pages": [{"name": "fine"}, {"name": "x"} | change]})
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kind": []}, 'expected an object with a "kind"'),
        ({"kind": None}, 'expected an object with a "kind"'),
        ({"kind": "circle", "radius": 10**400}, "radius: expected a finite number"),
        ({"kind": "circle", "radius": float("inf")}, "radius: expected a finite number, got inf"),
        ({"kind": "circle", "radius": float("nan")}, "radius: expected a finite number, got nan"),
    ],
)
def test_values_that_break_naive_readers(data: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        from_dict(Shape, data)
    assert message in str(error.value)
    assert len(str(error.value)) < 300


def test_deep_nesting_is_refused() -> None:
    deep: dict[str, Any] = {"kind": "group"}
    for _ in range(5000):
        deep = {"kind": "group", "members": [deep]}
    with pytest.raises(ConfigError, match="nested too deeply"):
        from_dict(Shape, deep)
    with pytest.raises(ConfigError, match=r"margin: expected a value of type float, got '\[\[\["):
        override(PAGE, ["margin=" + "[" * 100_000])
    with pytest.raises(ConfigError, match=r"margin: expected a value of type float, got '999"):
        override(PAGE, ["margin=" + "9" * 10_000])


@pytest.mark.parametrize("data", [None, 3, [], "x"])
def test_top_level_errors_have_no_empty_path(data: Any) -> None:
    with pytest.raises(ConfigError, match=r"^the configuration: expected an object, got"):
        from_dict(Page, data)


def test_missing_key_at_the_top() -> None:
    with pytest.raises(ConfigError, match=r"^name: this key is required and missing$"):
        from_dict(Page, {})


def test_whole_numbers_are_allowed_where_a_float_is_wanted() -> None:
    radius = from_dict(Shape, {"kind": "circle", "radius": 2}).radius  # type: ignore[attr-defined]
    assert (radius, type(radius)) == (2.0, float)


@pytest.mark.parametrize(
    ("assignment", "path", "expected"),
    [
        ("name=second", "name", "second"),
        ("margin=3", "margin", 3.0),
        ("margin=null", "margin", None),
        ("draft=true", "draft", True),
        ("size.1=19", "size", (7, 19)),
        ("size=[1, 2]", "size", (1, 2)),
        ("shapes.0.radius=0.5", "shapes", (Circle(radius=0.5), PAGE.shapes[1])),
        ("shapes.1.members.0.side=8", "shapes", (PAGE.shapes[0], Group(members=(Square(side=8), Group())))),
        ('named.a={"kind": "circle", "radius": 1}', "named", {"a": Circle(radius=1.0)}),
        ("title=a=b", "title", "a=b"),
        ("name=", "name", ""),
    ],
)
def test_override(assignment: str, path: str, expected: Any) -> None:
    changed = override(PAGE, [assignment])
    assert getattr(changed, path) == expected
    assert {k: v for k, v in vars(changed).items() if k != path} == {k: v for k, v in vars(PAGE).items() if k != path}


def test_a_star_is_every_entry_of_a_list() -> None:
    book = Book(
        pages=(replace(PAGE, shapes=(Circle(radius=1), Circle(radius=2))), replace(PAGE, shapes=(Circle(radius=5),)))
    )
    changed = override(book, ["pages.*.draft=true", "pages.*.shapes.*.radius=3"])
    assert [page.draft for page in changed.pages] == [True] * 2
    assert [shape for page in changed.pages for shape in page.shapes] == [Circle(radius=3)] * 3
    with pytest.raises(ConfigError, match=r"^pages\.\*\.shapes\.\*\.angle: pages\.0\.shapes\.0 has no 'angle'"):
        override(book, ["pages.*.shapes.*.angle=3"])


def test_entries_that_were_set_together_can_be_told_apart_again() -> None:
    changed = override(PAGE, ['shapes.*={"kind": "circle", "radius": 3}', "shapes.0.radius=4"])
    assert changed == override(
        PAGE, ['shapes.*={"kind": "circle", "radius": 3}', 'shapes.0={"kind": "circle", "radius": 4}']
    )


def test_overrides_follow_one_another() -> None:
    assert override(PAGE, ["shapes=[]", "name=a", "name=b"]) == override(PAGE, ["name=b", "shapes=[]"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("name", "'name': expected path=value"),
        ("nam=x", "nam: the configuration has no 'nam'. Did you mean 'name'?"),
        ("shapes.0.radios=1", "shapes.0.radios: shapes.0 has no 'radios'. Did you mean 'radius'?"),
        ("shapes.2.radius=1", "shapes.2.radius: shapes has entries 0 to 1 (* for all), not '2'"),
        ("shapes.-1.radius=1", "shapes.-1.radius: shapes has entries 0 to 1 (* for all), not '-1'"),
        ("name.first=x", "name.first: name is a single value and has no 'first'"),
        ("shapes.0.radius=0", "shapes.0.radius: expected more than 0, got 0"),
        ("shapes.0.kind=square", "shapes.0.radius: there is no such key"),
        ("name=3", "name: expected a value of type str, got 3"),
        ("", "'': expected path=value"),
        ("=3", ": the configuration has no ''"),
    ],
)
def test_wrong_overrides(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        override(PAGE, [assignment])
    assert message in str(error.value)


def test_plug_points_keep_their_own_kinds() -> None:
    assert set(Shape.kinds()) == {"circle", "square", "group"}
    assert Color.kinds() == {"circle": CircleColor}
    with pytest.raises(TypeError, match="two parts of one plug point are called 'circle'"):

        class Again(Shape, kind="circle"):
            pass

    Shape.kinds().clear()
    assert "circle" in Shape.kinds()


def test_a_config_error_is_a_wrong_use() -> None:
    assert issubclass(ConfigError, UsageError)
    assert ConfigError.exit_code == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "radius", "members", "name", "shapes", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(["name", "shapes", "size", "paper", "margin", "title", "named", "notes", "draft", "x"])
SHAPES = st.recursive(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["circle", "square", "grup"])}, optional={"radius": JSON, "side": JSON}
    ),
    lambda inner: st.fixed_dictionaries({"kind": st.just("group"), "members": st.lists(inner, max_size=3)}),
    max_leaves=4,
)


@given(JSON | st.dictionaries(KEYS, JSON | SHAPES | st.lists(SHAPES, max_size=2), max_size=9))
def test_any_json_is_a_configuration_or_a_config_error(data: Any) -> None:
    try:
        page = from_dict(Page, data)
    except ConfigError as error:
        assert str(error)
    else:
        assert from_dict(Page, json.loads(json.dumps(to_dict(page), allow_nan=False))) == page


@given(st.text(max_size=30))
def test_any_assignment_is_a_configuration_or_a_config_error(assignment: str) -> None:
    try:
        override(PAGE, [assignment])
    except ConfigError as error:
        assert str(error)


@given(
    st.sampled_from(["name", "shapes.0", "shapes.0.radius", "shapes.1.members", "size.0", "paper", "named.a", "title"]),
    JSON | SHAPES,
)
def test_any_value_is_a_configuration_or_a_config_error(path: str, value: Any) -> None:
    try:
        override(PAGE, [f"{path}={json.dumps(value)}"])
    except ConfigError as error:
        assert str(error)
