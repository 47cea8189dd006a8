"""From finished pieces of text to shards: what is decided with all documents in view, and the writing in their order.

Which documents are left out as copies, which are held out, which training documents leak; then both splits are written, and
what was written is summed up for the report.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertsmith.data.duplicates import Duplicates, exact_originals, near_originals, open_signatures
from bertsmith.data.leaks import NEAR, OVERLAP, PASSAGE, HeldoutPassages
from bertsmith.data.passages import passages
from bertsmith.data.pieces import COLUMNS, TokenizedPiece
from bertsmith.data.quality import SHORT
from bertsmith.data.shards import ShardWriter
from bertsmith.data.tokenizing import Counts, Tokenization
from bertsmith.data.workspace import Workspace
from bertsmith.progress import Progress
from bertsmith.text import Vocabulary

_EXAMPLES = 5
_WRITING = "writing documents"


@dataclass(frozen=True)
class _Texts:
    """The documents of a piece that are kept, or the two parts of a single one.

    `rows` are their rows in the piece's table; `sentence_bounds` and `token_bounds` say where each one starts.
    """

    tokens: np.ndarray
    sentence_lengths: np.ndarray
    sentence_bounds: np.ndarray
    token_bounds: np.ndarray
    rows: np.ndarray
    heldout: np.ndarray


class Assembly:
    """From finished pieces to shards: what must be decided with all documents in view, and the writing in order."""

    def __init__(self, work: Workspace[TokenizedPiece], task: Tokenization, progress: Progress) -> None:
        self._work, self._task, self._progress = work, task, progress
        digests, apart, words, empty = list[np.ndarray](), list[np.ndarray](), list[np.ndarray](), np.zeros(2, np.int64)
        for name in work.names:
            piece = work.load(name, "digests", "table", "empty")
            digests.append(piece.digests)
            apart.append(piece.column("apart").astype(bool))
            words.append(piece.column("words").astype(np.uint32))
            empty += piece.empty
        self._first = np.cumsum([0, *map(len, digests)])  # number of each piece's first document
        self._digests, self._heldout, self._words = map(np.concatenate, (digests, apart, words))
        self._empty = empty
        self.documents = len(self._digests)

    def decide(self, duplicates: Duplicates, heldout: float) -> None:
        """Say of each document whether it is kept and whether it is held out."""
        self._copies = exact_originals(self._digests)
        own = np.arange(self.documents)
        self._kept = np.ones(self.documents, bool) if duplicates == "keep" else self._copies == own
        report: dict[str, Any] = {"mode": duplicates, "copies": int((self._copies != own).sum())}
        originals = self._copies
        if duplicates == "near":
            near = self._near()
            report["near"] = int((self._kept & (near != own)).sum())
            originals = np.where(self._kept, near, originals)
            self._kept &= near == own
        repeated = np.flatnonzero(originals != own)
        report["left_out"] = int((~self._kept).sum())
        report["examples"] = [
            {"document": self._where(int(n)), "repeats": self._where(int(originals[n]))} for n in repeated[:_EXAMPLES]
        ]
        self._duplicates = report
        kept = np.flatnonzero(self._kept)
        self._cut = heldout if heldout and len(kept) == 1 else 0.0
        if heldout and len(kept) > 1:
            every = round(1 / heldout)
            self._heldout[kept[every - 1 :: every] if len(kept) >= every else kept[-1:]] = True

    def write(self, folder: Path, shard_tokens: int, *, drop_leaks: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Write both splits; return what the manifest says of them, and of the text."""
        train = ShardWriter(folder, "train", self._task.token_bytes, shard_tokens)
        apart = ShardWriter(folder, "heldout", self._task.token_bytes, shard_tokens)
        leaks = _LeakCheck(self._task.tokenizer.vocabulary)
        if self._cut or (self._heldout & self._kept).any():
            for number in range(len(self._work.names)):
                if self._cut or (self._heldout & self._kept)[self._first[number] : self._first[number + 1]].any():
                    leaks.hold_out(self._texts(number)[1], self._first[number])
            leaks.begin(self._copies, self._heldout & self._kept)
        survey = _Survey()
        for number in range(len(self._work.names)):
            piece, texts = self._texts(number)
            leaking = leaks.in_training(texts, self._first[number])
            dropped = leaking & drop_leaks
            for text in np.flatnonzero(~dropped):
                first, end = texts.sentence_bounds[text : text + 2]
                start, stop = texts.token_bounds[text : text + 2]
                writer = apart if texts.heldout[text] else train
                writer.add(texts.tokens[start:stop], texts.sentence_lengths[first:end])
            self._kept[self._first[number] + texts.rows[dropped]] = False
            survey.add(piece, np.unique(texts.rows[~dropped]))
            self._progress(_WRITING, int(self._first[number + 1]), self.documents)
        train.close()
        apart.close()
        statistics = survey.statistics(self._words[self._kept], self._empty)
        statistics["duplicates"] = self._duplicates
        statistics["leaks"] = leaks.report(self._where, dropped=drop_leaks)
        return {"train": train.summary(), "heldout": apart.summary()}, statistics

    def _near(self) -> np.ndarray:
        file = self._work.folder / "signatures.npy"
        signed, compared = open_signatures(file, self.documents), self._kept.copy()
        for number, name in enumerate(self._work.names):
            piece = self._work.load(name, "signatures", "table")
            here = slice(self._first[number], self._first[number + 1])
            signed[here] = piece.signatures
            compared[here] &= piece.column("shingles") > 0
        return near_originals(signed, np.flatnonzero(compared))

    def _texts(self, number: int) -> tuple[TokenizedPiece, _Texts]:
        piece = self._work.load(self._work.names[number])
        here = slice(self._first[number], self._first[number + 1])
        kept = self._kept[here]
        rows = np.flatnonzero(kept)
        of_sentences = np.repeat(kept, piece.column("sentences"))
        texts = _Texts(
            tokens=piece.tokens[np.repeat(kept, piece.column("tokens"))],
            sentence_lengths=piece.sentence_lengths[of_sentences],
            sentence_bounds=np.cumsum([0, *piece.column("sentences")[rows]]),
            token_bounds=np.cumsum([0, *piece.column("tokens")[rows]]),
            rows=rows,
            heldout=self._heldout[here][rows],
        )
        return piece, _cut_in_two(texts, piece.starts_paragraph[of_sentences], self._cut) if self._cut else texts

    def _where(self, document: int) -> str:
        number = int(np.searchsorted(self._first, document, "right")) - 1
        piece = self._work.load(self._work.names[number], "table", "sources")
        row = document - self._first[number]
        return f"{piece.sources[piece.column('source')[row]]}, line {piece.column('line')[row]}"


def _cut_in_two(texts: _Texts, starts_paragraph: np.ndarray, heldout: float) -> _Texts:
    """A single document: hold out its last paragraphs, or its last sentences if it has one paragraph only."""
    if not len(texts.rows):
        return texts
    ends = np.cumsum(texts.sentence_lengths)
    cuts = np.flatnonzero(starts_paragraph)[1:]
    cuts = cuts if len(cuts) else np.arange(1, len(ends))
    if not len(cuts):
        return texts  # a single sentence cannot be shared
    wanted = (1 - heldout) * len(texts.tokens)
    sentence = int(cuts[np.abs(ends[cuts - 1] - wanted).argmin()])
    return replace(
        texts,
        sentence_bounds=np.array([0, sentence, len(ends)]),
        token_bounds=np.array([0, ends[sentence - 1], ends[-1]]),
        rows=np.repeat(texts.rows, 2),
        heldout=np.array([False, True]),
    )


class _Survey:
    """Sums over the documents that were written."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(COLUMNS, 0)
        self._single = self._longest = 0
        self._languages: Counter[str] = Counter()

    def add(self, piece: TokenizedPiece, rows: np.ndarray) -> None:
        table = piece.table[rows]
        for name, total in zip(COLUMNS, table.sum(axis=0).tolist(), strict=True):
            self._sums[name] += total
        if len(rows):
            self._longest = max(self._longest, int(piece.column("longest_sentence")[rows].max()))
        self._single += int((piece.column("sentences")[rows] == 1).sum())
        if len(piece.languages):
            self._languages.update(piece.languages[rows].tolist())

    def statistics(self, words: np.ndarray, empty: np.ndarray) -> dict[str, Any]:
        """The report; `words` of each written document, and how many documents and sentences had no token."""
        sums, documents = self._sums, len(words)
        counts = Counts(
            documents,
            sums["sentences"],
            sums["tokens"],
            sums["words"],
            sums["unknown_words"],
            int(empty[0]),
            int(empty[1]),
            self._single,
            self._longest,
        )
        spread = np.quantile(words, [0.05, 0.5, 0.95], method="inverted_cdf").tolist() if documents else [0, 0, 0]
        characters, lines = max(1, sums["characters"]), max(1, sums["lines"])
        languages = sorted(self._languages.items(), key=lambda found: (-found[1], found[0]))
        return {f.name: getattr(counts, f.name) for f in fields(counts)} | {
            "fertility": round(counts.fertility, 6),
            "unknown_rate": round(counts.unknown_rate, 8),
            "sentences_per_document": round(counts.sentences / max(1, documents), 4),
            "tokens_per_sentence": round(counts.tokens / max(1, counts.sentences), 4),
            "words_per_document": dict(zip(("5%", "50%", "95%"), map(int, spread), strict=True)),
            "very_short_documents": int((words < SHORT).sum()),
            "characters": sums["characters"],
            "characters_per_line": round(sums["characters"] / lines, 2),
            "lines": sums["lines"],
            "repeated_lines": round(sums["repeated_lines"] / lines, 6),
            **{name: round(sums[name] / characters, 6) for name in ("letters", "digits", "marks")},
            "languages": dict(languages) if languages else None,
        }


class _LeakCheck:
    """Held-out documents against training documents; without the first there is nothing to check."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._held = HeldoutPassages()
        self._number_of = list[np.ndarray]()
        self._copied = np.zeros(0, bool)
        self._active = False
        self._training = 0
        self._examples: list[tuple[int, int, float]] = []

    def hold_out(self, texts: _Texts, first: int) -> None:
        """Take in a piece's held-out documents; `first` is the number of the piece's first document."""
        self._held.add(*_chosen(*self._passages(texts), texts.heldout))
        self._number_of.append(first + texts.rows[texts.heldout])

    def begin(self, copies: np.ndarray, heldout: np.ndarray) -> None:
        """All held-out documents are in. `copies` names the first document of the same text."""
        self._active = True
        self._held.freeze()
        self._numbers = np.concatenate(self._number_of)
        self._copies, self._heldout_texts = copies, np.unique(copies[heldout])
        self._copied_texts = np.zeros(0, np.int64)

    def in_training(self, texts: _Texts, first: int) -> np.ndarray:
        """Bool for each text: whether it is for training and holds half of a held-out document, or all of it."""
        leaking = np.zeros(len(texts.rows), bool)
        if not self._active:
            return leaking
        training = np.flatnonzero(~texts.heldout)
        share, most = self._held.met_in(*_chosen(*self._passages(texts), ~texts.heldout))
        copies = self._copies[first + texts.rows[training]]
        same = np.isin(copies, self._heldout_texts)
        self._copied_texts = np.union1d(self._copied_texts, copies[same])
        leaking[training] = same | (share >= OVERLAP)
        self._training += int(leaking.sum())
        for place in np.flatnonzero(share >= OVERLAP)[: _EXAMPLES - len(self._examples)]:
            held = int(self._numbers[most[place]])
            self._examples.append((int(first + texts.rows[training[place]]), held, float(share[place])))
        return leaking

    def report(self, where: Callable[[int], str], *, dropped: bool) -> dict[str, Any] | None:
        """For the manifest; None where nothing is held out."""
        if not self._active:
            return None
        held = self._held
        copied = np.isin(self._copies[self._numbers], self._copied_texts)
        return {
            "heldout_documents": len(self._numbers),
            "copies": int(copied.sum()),
            "nearly_copies": int(((held.best >= NEAR) & ~copied).sum()),
            "half_or_more": int(((held.best >= OVERLAP) & (held.best < NEAR) & ~copied).sum()),
            "any_passage": int(held.touched.sum()),
            "passage_words": PASSAGE,
            "passages": held.passages,
            "passages_in_training": round(held.passages_met / max(1, held.passages), 6),
            "looked_at_one_in": held.one_in,
            "training_documents": self._training,
            "training_documents_left_out": self._training if dropped else 0,
            "examples": [
                {"training": where(one), "heldout": where(other), "share": round(share, 4)}
                for one, other, share in self._examples
            ],
        }

    def _passages(self, texts: _Texts) -> tuple[np.ndarray, np.ndarray]:
        return passages(texts.tokens, texts.token_bounds, self._vocabulary, PASSAGE)


def _chosen(hashes: np.ndarray, bounds: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The passages of some documents, given as bool `(documents,)`."""
    lengths = np.diff(bounds)
    return hashes[np.repeat(documents, lengths)], np.cumsum([0, *lengths[documents]])
