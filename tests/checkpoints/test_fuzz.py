"""Damage by chance: every file of a folder cut off and with flipped bits. A few each time, all of it in the long tests."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bertsmith.checkpoints import Checkpoint, load_model, save_model
from bertsmith.config import override
from bertsmith.errors import CheckpointError, VocabularyError
from bertsmith.nn import MaskedLMHead, Model
from bertsmith.recipes import bert
from bertsmith.text import SPECIAL_TOKENS, Tokenizer, Vocabulary


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ours that is as small as can be."""
    tokenizer = Tokenizer(Vocabulary((*SPECIAL_TOKENS, *"abc", *(f"##{c}" for c in "abc"))))
    config = Model.Config(encoder=bert.encoder(4, 1, 1), pooler=False, heads={"masked_lm": MaskedLMHead.Config()})
    config = override(config, ["encoder.vocab_size=11", "encoder.channels.tokens.1.max_position_embeddings=7"])
    folder = tmp_path_factory.mktemp("fuzz") / "ours"
    return save_model(folder, Checkpoint(model=config.initialized(2), tokenizer=tokenizer))


@pytest.fixture(scope="module")
def foreign(ours: Path) -> Path:
    """The same without what is ours in it."""
    path = shutil.copytree(ours, ours.parent / "foreign")
    for name in ("bertsmith.json", "integrity.json"):
        (path / name).unlink()
    return path


def files_of(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def flipped(folder: Path, times: int) -> Iterator[str]:
    """One bit of the folder is another at a time, each byte of it as likely as any."""
    files, chance = files_of(folder), random.Random(11)
    sizes = [file.stat().st_size for file in files]
    for _ in range(times):
        (file,) = chance.choices(files, sizes)
        place, bit = chance.randrange(file.stat().st_size), chance.randrange(8)
        with file.open("r+b", buffering=0) as stream:
            stream.seek(place)
            (old,) = stream.read(1)
            stream.seek(place)
            stream.write(bytes([old ^ 1 << bit]))
            yield f"{file.name}, byte {place}, bit {bit}"
            stream.seek(place)
            stream.write(bytes([old]))


def cut_off(folder: Path, times: int | None) -> Iterator[str]:
    """Each file is shorter at a time: by all lengths, or by `times` of them."""
    chance = random.Random(12)
    for file in files_of(folder):
        whole = file.read_bytes()
        lengths = range(len(whole))
        for length in sorted(chance.sample(lengths, min(times or len(lengths), len(lengths))), reverse=True):
            os.truncate(file, length)
            yield f"{file.name}, {length} of {len(whole)} bytes"
        file.write_bytes(whole)


def check_ours(folder: Path, damages: Iterator[str]) -> None:
    for damage in damages:
        with pytest.raises(CheckpointError) as error:
            load_model(folder)
        assert damage.split(",")[0] in str(error.value) or "integrity.json" in damage, (damage, error.value)
    load_model(folder)


def check_foreign(folder: Path, damages: Iterator[str]) -> int:
    """Damage is named or does no harm to loading; how often it was named."""
    named = 0
    for damage in damages:
        try:
            load_model(folder)
        except (CheckpointError, VocabularyError) as error:
            named += 1
            assert str(folder) in str(error), (damage, error)
        except Exception as error:
            raise AssertionError(damage) from error
    load_model(folder)
    return named


def test_some_damage_to_ours(ours: Path) -> None:
    check_ours(ours, flipped(ours, 300))
    check_ours(ours, cut_off(ours, 9))


def test_some_damage_to_a_foreign_folder(foreign: Path) -> None:
    assert check_foreign(foreign, flipped(foreign, 120)) > 20
    assert check_foreign(foreign, cut_off(foreign, 5)) > 20


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_truncation_and_20_000_flipped_bits_of_ours(ours: Path) -> None:
    check_ours(ours, flipped(ours, 20_000))
    check_ours(ours, cut_off(ours, None))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_much_damage_to_a_foreign_folder(foreign: Path) -> None:
    """Without a list of hashes nobody can refuse a changed number; nothing else than an error by name may happen."""
    assert check_foreign(foreign, flipped(foreign, 3_000)) > 500
    assert check_foreign(foreign, cut_off(foreign, 150)) > 500
