"""Build the text, the vocabulary and the shards that the shipped model `small-english` is pretrained on.

    python benchmarks/make_small_english.py OUT [--data FOLDER] [--size 8192]

Only text goes in whose licence lets a model made from it be passed on freely: public domain, CC0, CC BY. FOLDER is the
shared data (its `get` unpacks what is needed); by default `../shared/data`.

    OUT/train/*.txt    OUT/heldout/*.txt    one file a source: a paragraph a line, a blank line between documents
    OUT/tokenizer      OUT/shards           what `bertsmith pretrain` takes
    OUT/ATTRIBUTION.md OUT/corpus.json      sources, licences, changes; counts

What is left out of the data that is at hand, and why: the biomedical articles, because some are CC BY-SA and the file
does not say which, nor who wrote them; SemCor, because the Brown Corpus beneath it is for non-commercial use; MASC's
newswire, letters, e-mail, spam and tweets, which are other people's news or private; everything share-alike, "research"
or NC.
"""

import argparse
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path

from bertsmith.data import learn_tokenizer, prepare, read_documents

REPOSITORY = Path(__file__).resolve().parents[1]
EVERY = 50  # of the documents of a source, in the order of their SHA-256, every so many-th is held out
SHORTEST = 12  # words; a shorter paragraph stays only if it ends as a sentence does

# By how they begin. In the United States what appeared after 1930 is still protected; elsewhere, seventy years are counted
# from the author's death, and E. M. Forster died in 1970.
PROTECTED = (
    "The Years\n1880",
    "Over the River\n",
    "WHERE ANGELS FEAR TO TREAD\n",
    "Howards End\n",
    "A ROOM WITH A VIEW\n",
)

MASC = (
    *(f"spoken/{kind}" for kind in ("court-transcript", "debate-transcript", "face-to-face", "telephone")),
    *(f"written/{kind}" for kind in ("blog", "essays", "ficlets", "fiction", "govt-docs", "jokes", "journal")),
    *(f"written/{kind}" for kind in ("movie-script", "non-fiction", "technical", "travel-guides")),
)
TATOEBA_SENTENCES = 25  # in one document

_HEADING = re.compile(r"\b(?:CHAPTER|BOOK|PART|VOLUME|VOL\.)\s+(?:[IVXLC]+|\d+|THE \w+|[A-Z]+)\b\.?")
_WORD = re.compile(r'<word text="([^"]*)"[^>]*break_level="(\w+)"')
_MARKUP = re.compile(r"_(?=\w)|(?<=[\w.,;!?])_")
_END = re.compile(r"[.!?:;,\u2014-][\"'”’)\]]*$")
_WEB = re.compile(r"https?://|www\.")


@dataclass(frozen=True)
class Source:
    """Where some of the text is from: its documents, each a list of paragraphs, and what has to be said of it."""

    name: str
    what: str
    licence: str
    credit: str
    changes: str
    documents: Callable[["Data"], Iterator[list[str]]]


@dataclass(frozen=True)
class Data:
    """The shared data."""

    folder: Path

    def get(self, name: str) -> Path:
        """The folder of the set called `name`, unpacked."""
        found = subprocess.run([self.folder / "get", name], capture_output=True, text=True, check=True)
        return Path(found.stdout.strip())


def novels(data: Data) -> Iterator[list[str]]:
    """Novels, chapter headings and title pages left out."""
    for document in read_documents(data.get("text/novels-en") / "novels-en.txt.xz"):
        text = document.text.replace("\ufeff", "").strip()
        if not text.startswith(PROTECTED):
            yield prose(_HEADING.sub("\n", _MARKUP.sub("", text)).split("\n"))


def factbook(data: Data) -> Iterator[list[str]]:
    """Country profiles: the paragraphs that are sentences; tables and lists are not."""
    for document in read_documents(data.get("text/factbook") / "factbook.txt.xz"):
        yield [p for p in prose(document.text.split("\n")) if p.endswith(".") and len(p.split()) >= SHORTEST]


def reviews(data: Data) -> Iterator[list[str]]:
    """Film reviews, as the demo ships them: lower-cased by their authors, one sentence a line. Not those it holds out."""
    for document in read_documents(REPOSITORY / "src" / "bertsmith" / "demo" / "data" / "reviews.txt.xz"):
        yield document.text.split("\n")


def masc(data: Data) -> Iterator[list[str]]:
    """American English of many kinds, spoken and written, put together from its words."""
    for kind in MASC:
        for file in sorted((data.get("wsd-corpora") / "masc" / kind).glob("*.xml")):
            yield prose(_words(file.read_text(encoding="utf-8")).split("\n"))


def tatoeba(data: Data) -> Iterator[list[str]]:
    """Short everyday sentences: the English side of translations into 112 languages, each once."""
    files = sorted((data.get("tatoeba-laser") / "v1").glob("*.eng"))
    lines = dict.fromkeys(line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines())
    sentences = sorted((line for line in lines if line), key=digest)
    for start in range(0, len(sentences), TATOEBA_SENTENCES):
        yield sentences[start : start + TATOEBA_SENTENCES]


SOURCES = (
    Source(
        "novels",
        "English novels of 1830 to 1930 from public collections of texts",
        "public domain",
        "Their authors, from R. D. Blackmore to Virginia Woolf",
        "title pages, headings and marks of italics left out; five novels left out that are not in the public domain "
        "everywhere",
        novels,
    ),
    Source(
        "reviews",
        "Sentiment Polarity Dataset 2.0, 1,892 film reviews (http://www.cs.cornell.edu/people/pabo/movie-review-data/)",
        "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)",
        'Bo Pang and Lillian Lee, "A Sentimental Education", ACL 2004',
        "see ATTRIBUTION.md of the demo's data; the labels are not used",
        reviews,
    ),
    Source(
        "masc",
        "Manually Annotated Sub-Corpus of the American National Corpus, as published with senses by Google "
        "(https://github.com/google-research-datasets/word_sense_disambigation_corpora)",
        "free of usage and redistribution restrictions (http://www.anc.org/MASC/About.html); as released here CC BY 4.0",
        "Nancy Ide, Collin Baker, Christiane Fellbaum, Rebecca Passonneau, American National Corpus project; Google Inc.",
        "words put together to text; newswire, letters, e-mail, spam and tweets left out",
        masc,
    ),
    Source(
        "tatoeba",
        "Short sentences from Tatoeba (https://tatoeba.org), as collected for LASER",
        "CC BY 2.0 FR (https://creativecommons.org/licenses/by/2.0/fr/)",
        "The contributors of tatoeba.org",
        "each sentence once, in an order by its SHA-256",
        tatoeba,
    ),
    Source(
        "factbook",
        "The World Factbook, country profiles",
        "CC0 / public domain",
        "Central Intelligence Agency",
        "only paragraphs of whole sentences",
        factbook,
    ),
)


def main() -> None:
    """Build everything; print what went in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=REPOSITORY.parent / "shared" / "data")
    parser.add_argument("--size", type=int, default=8192, help="tokens of the vocabulary")
    options = parser.parse_args()
    rows = [write(source, Data(options.data), options.out) for source in SOURCES]
    (options.out / "ATTRIBUTION.md").write_text(attribution(rows), encoding="utf-8")
    learned = learn_tokenizer(options.out / "train", options.size)
    learned.tokenizer.save(options.out / "tokenizer")
    made = prepare(
        options.out / "train",
        learned.tokenizer,
        options.out / "shards",
        heldout_text=options.out / "heldout",
        leaks="drop",
    )
    corpus = {
        "sources": rows,
        "vocabulary": {"tokens": options.size, "fertility": learned.statistics.fertility},
        "shards": {"train_tokens": made.train_tokens, "heldout_tokens": made.heldout_tokens},
    }
    (options.out / "corpus.json").write_text(json.dumps(corpus, indent=1) + "\n", encoding="utf-8")
    print(f"{'source':10} {'documents':>9} {'words':>11} {'held out':>8} {'words':>9}  licence")
    for row in rows:
        counts = f"{row['documents']:9,} {row['words']:11,} {row['heldout_documents']:8,} {row['heldout_words']:9,}"
        print(f"{row['name']:10} {counts}  {row['licence']}")
    print(f"{made.train_tokens:,} tokens, {made.heldout_tokens:,} held out, {learned.statistics.fertility:.3f} a word")
    for notice in made.notices:
        print(notice)


def write(source: Source, data: Data, out: Path) -> dict[str, str | int]:
    """Write a source's documents into OUT/train and OUT/heldout; its counts."""
    documents = sorted(("\n".join(p) for p in source.documents(data) if p), key=digest)
    parts = {
        "train": [d for i, d in enumerate(documents) if i % EVERY != EVERY // 2],
        "heldout": documents[EVERY // 2 :: EVERY],
    }
    for split, texts in parts.items():
        (out / split).mkdir(parents=True, exist_ok=True)
        (out / split / f"{source.name}.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return {
        "name": source.name,
        "what": source.what,
        "licence": source.licence,
        "credit": source.credit,
        "changes": source.changes,
        "documents": len(parts["train"]),
        "words": words(parts["train"]),
        "heldout_documents": len(parts["heldout"]),
        "heldout_words": words(parts["heldout"]),
    }


def prose(lines: Iterable[str]) -> list[str]:
    """The lines that are paragraphs of prose, with single blanks: no headings, no addresses, no tables."""
    kept = []
    for line in lines:
        paragraph = " ".join(line.split())
        letters = sum(map(str.isalpha, paragraph))
        if not letters or paragraph.isupper() or letters < 0.6 * len(paragraph) or _WEB.search(paragraph):
            continue
        if _END.search(paragraph) or len(paragraph.split()) >= SHORTEST:
            kept.append(paragraph)
    return kept


def attribution(rows: Iterable[dict[str, str | int]]) -> str:
    """What has to be said wherever the text or the model goes."""
    parts = [
        "# What small-english was pretrained on",
        "All of it may be passed on, changed or not, with this notice. No author or publisher endorses the model. The text "
        "was built by `benchmarks/make_small_english.py`; a part of each source was held out for evaluation.",
    ]
    for row in rows:
        facts = {"Source": row["what"], "Licence": row["licence"], "By": row["credit"], "Changes": row["changes"]}
        size = f"{row['documents']:,} documents, {row['words']:,} words"
        parts.append("\n".join([f"## {row['name']}", "", f"- {size}", *(f"- {k}: {v}" for k, v in facts.items())]))
    return "\n\n".join(parts) + "\n"


def words(texts: Iterable[str]) -> int:
    """Words, as white space parts them."""
    return sum(len(text.split()) for text in texts)


def digest(text: str) -> str:
    """The SHA-256 of a text, to sort by."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _words(xml: str) -> str:
    """The text of a file of MASC, a paragraph a line, from the words and what stands before each."""
    breaks = {"NO_BREAK": "", "SPACE_BREAK": " ", "LINE_BREAK": " ", "SENTENCE_BREAK": " ", "PARAGRAPH_BREAK": "\n"}
    text = "".join(breaks[level] + unescape(word) for word, level in _WORD.findall(xml))
    return text.partition(".txt")[2]  # the file begins with its own name


if __name__ == "__main__":
    sys.exit(main())
