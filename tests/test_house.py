"""The house keeps itself in order: rules that a linter does not know."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "bertsmith").rglob("*.py"))
NAMES = [path.relative_to(ROOT).as_posix() for path in SOURCES]


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or node.lineno) - node.lineno < 80, f"{node.name} is over 80 lines"
            booleans = [a for a in [*node.args.args, *node.args.kwonlyargs] if ast.unparse(a.annotation or a) == "bool"]
            if "cli" not in path.parts:
                assert len(booleans) <= 2, f"{node.name} takes {len(booleans)} booleans"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_functions_are_annotated_and_modules_say_what_they_are(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree), "a module without a docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            assert not bare, f"{node.name}: {bare} without a type"
            assert node.returns is not None, f"{node.name} does not say what it returns"


def test_no_rooms_without_a_name_of_their_own() -> None:
    nameless = {"utils", "helpers", "common", "misc", "util"}
    assert not [name for name in NAMES if nameless & set(Path(name).with_suffix("").parts)]


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_nothing_from_a_file_is_ever_run(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {"pickle", "marshal", "shelve", "dill", "cloudpickle"} & set(modules)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "torch.load", "yaml.load", "np.load"}, called


@pytest.mark.parametrize("path", sorted((ROOT / "src" / "bertsmith" / "recipes").glob("*.py")), ids=lambda p: p.stem)
def test_recipes_define_no_classes(path: Path) -> None:
    assert not [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.ClassDef)]


def test_every_test_on_disk_is_collected() -> None:
    """A file whose name pytest does not know would be silence that looks like success."""
    strays = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if not path.name.startswith("test_")
        and path.name != "conftest.py"
        and "def test_" in path.read_text(encoding="utf-8")
    ]
    assert strays == []


def test_importing_the_package_does_not_load_torch() -> None:
    code = "import sys, bertsmith, bertsmith.text, bertsmith.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_facade_exports_what_it_says() -> None:
    import bertsmith

    assert sorted(bertsmith.__all__) == bertsmith.__all__
    for name in bertsmith.__all__:
        assert getattr(bertsmith, name)
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        bertsmith.lod  # noqa: B018


def test_no_invisible_characters_in_the_sources() -> None:
    """Bidirectional and zero-width characters can make code read differently from what it does (CVE-2021-42574)."""
    hidden = set(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x200C, 0x200D, 0xFEFF]))
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.py")]:
        assert not hidden & set(path.read_text(encoding="utf-8")), path
