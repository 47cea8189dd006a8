"""Rebuild, byte for byte, the text and the labelled sentences that `bertsmith demo` ships.

    python benchmarks/make_demo_data.py [--corpora FOLDER] [--into FOLDER] [--check]

The sources are two packages of the NLTK data collection (https://www.nltk.org/nltk_data/), both by Bo Pang and Lillian
Lee and both under CC BY 4.0: `movie_reviews.zip` (polarity dataset 2.0) and `subjectivity.zip` (subjectivity dataset
1.0).
FOLDER holds the two zips; by default `$BERTSMITH_DATA/nltk-corpora`, else the archive in `../shared/data/sets`.

What is done to them (ATTRIBUTION.md beside the data says the same):

1. Runs of blanks become one blank, blanks at the ends of a line go, and Windows-1252 dashes that were left as
   control characters become dashes.
2. A review whose sentences mostly occur in an earlier review is dropped.
3. A labelled sentence that shares ten words in a row with a review or with an earlier labelled sentence is dropped, so
   that nothing is learned by heart in one file and scored in another.
4. Everything is put in the order of its SHA-256, which mixes good with bad reviews and the two labels, and needs no
   random generator; the splits are slices of that order.
"""

import argparse
import hashlib
import io
import lzma
import os
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED = REPOSITORY / "src" / "bertsmith" / "demo" / "data"
HELD_OUT_REVIEWS = 100
SPLITS = {"dev": 1000, "test": 2000, "train": 2000}  # the sizes, in the order in which they are cut
LABELS = {"subjectivity/quote.tok.gt9.5000": "subjective", "subjectivity/plot.tok.gt9.5000": "objective"}
OVERLAP = 10  # words in a row that two texts may not share
REPEATED = 0.25  # a review with a larger part of its sentences in an earlier review is a copy


def main() -> int:
    """Write the files, or with `--check` compare them with those that are there; 1 if any differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--corpora", type=Path, help="folder with movie_reviews.zip and subjectivity.zip")
    parser.add_argument("--into", type=Path, default=SHIPPED, help="where the files go")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    arguments = parser.parse_args()
    reviews = distinct_reviews(read_reviews(open_zip("movie_reviews.zip", arguments.corpora)))
    sentences = distinct_sentences(read_sentences(open_zip("subjectivity.zip", arguments.corpora)), reviews)
    differing = 0
    for name, content in files(reviews, sentences).items():
        path = arguments.into / name
        if not arguments.check:
            path.write_bytes(content)
        same = path.exists() and plain(path.read_bytes(), name) == plain(content, name)
        differing += not same
        print(f"{name:24} {len(content):9,} bytes  {'as built' if same else 'DIFFERS'}")
    return 1 if differing else 0


def open_zip(name: str, corpora: Path | None) -> zipfile.ZipFile:
    """The zip called `name`, from the folder given, from `$BERTSMITH_DATA`, or from the packed set."""
    if corpora is None and "BERTSMITH_DATA" in os.environ:
        corpora = Path(os.environ["BERTSMITH_DATA"]) / "nltk-corpora"
    if corpora is not None:
        return zipfile.ZipFile(corpora / name)
    packed = REPOSITORY.parent / "shared" / "data" / "sets" / "nltk-corpora.tar.xz"
    if not packed.exists():
        raise SystemExit(f"{packed} is not there: give the folder that holds {name} with --corpora")
    with tarfile.open(packed) as archive:
        member = archive.extractfile(f"nltk-corpora/{name}")
        assert member is not None, f"{packed} holds no {name}"
        return zipfile.ZipFile(io.BytesIO(member.read()))


def read_reviews(archive: zipfile.ZipFile) -> list[list[str]]:
    """All reviews, each a list of sentences, by SHA-256."""
    names = sorted(name for name in archive.namelist() if name.endswith(".txt"))
    return sorted((list(lines(archive.read(name))) for name in names), key=lambda review: digest("\n".join(review)))


def read_sentences(archive: zipfile.ZipFile) -> list[tuple[str, str]]:
    """All (sentence, label) pairs, by the SHA-256 of the sentence."""
    pairs = [(sentence, label) for name, label in LABELS.items() for sentence in lines(archive.read(name))]
    return sorted(pairs, key=lambda pair: digest(pair[0]))


def lines(content: bytes) -> Iterator[str]:
    """The lines that are not blank, with single blanks and with dashes where Windows-1252 dashes were left."""
    for line in content.decode("utf-8").replace("\x96", "–").replace("\x97", "—").split("\n"):
        if line.strip():
            yield " ".join(line.split())


def distinct_reviews(reviews: list[list[str]]) -> list[list[str]]:
    """The reviews without the copies of an earlier one; short sentences do not count, they repeat by chance."""
    kept, seen = [], set[str]()
    for review in reviews:
        long = {" ".join(words(sentence)) for sentence in review if len(words(sentence)) >= OVERLAP}
        if len(long & seen) <= REPEATED * len(long):
            kept.append(review)
            seen |= long
    return kept


def distinct_sentences(pairs: list[tuple[str, str]], reviews: list[list[str]]) -> list[tuple[str, str]]:
    """The pairs that share no `OVERLAP` words in a row with a review or with an earlier pair."""
    seen = {run for review in reviews for run in runs(" ".join(review))}
    kept = []
    for sentence, label in pairs:
        own = set(runs(sentence))
        if not own & seen:
            kept.append((sentence, label))
            seen |= own
    return kept


def words(text: str) -> list[str]:
    """Letters and digits only, in lower case: what two texts are compared by."""
    return re.findall(r"\w+", text.lower())


def runs(text: str) -> Iterator[str]:
    """Every run of `OVERLAP` words; the whole text where it is shorter."""
    found = words(text)
    for start in range(max(1, len(found) - OVERLAP + 1)):
        yield " ".join(found[start : start + OVERLAP])


def files(reviews: list[list[str]], sentences: list[tuple[str, str]]) -> dict[str, bytes]:
    """The content of every file by its name."""
    content = {
        "reviews.txt.xz": compress(reviews[HELD_OUT_REVIEWS:]),
        "reviews-heldout.txt.xz": compress(reviews[:HELD_OUT_REVIEWS]),
    }
    start = 0
    for split, size in SPLITS.items():
        content[f"{split}.tsv"] = table(sentences[start : start + size])
        start += size
    return content


def compress(reviews: Iterable[list[str]]) -> bytes:
    """One sentence a line and a blank line between reviews, as xz."""
    text = "\n\n".join("\n".join(review) for review in reviews) + "\n"
    return lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME)


def table(pairs: Iterable[tuple[str, str]]) -> bytes:
    """A header and one sentence a line with its label after a tab; nothing is quoted."""
    rows = "".join(f"{sentence}\t{label}\n" for sentence, label in pairs)
    return f"text\tlabel\n{rows}".encode()


def plain(content: bytes, name: str) -> bytes:
    """What is compared: the text, because another release of liblzma may pack it otherwise."""
    return lzma.decompress(content) if name.endswith(".xz") else content


def digest(text: str) -> str:
    """The SHA-256 of the text in UTF-8, in hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
