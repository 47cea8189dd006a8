"""What a tokenizer makes of a text: tokens, and the way back to words and characters."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Encoding:
    """The tokens of a text or of a pair of texts: lists of one length, one entry a token.

    Attributes:
        ids: number of the token in the vocabulary.
        tokens: its text, "##" in front where it continues a word.
        offsets: start and end, in characters, of what it stands for in its own text as written; (0, 0) for special
            tokens that were added.
        word_ids: number of the basic token (word or punctuation mark) of its text to which it belongs; None for
            special tokens that were added. The second text of a pair counts from 0 again.
        type_ids: 0 for the first text, 1 for the second.
        truncated: how many tokens did not fit into the length asked for, and were cut off.
    """

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    word_ids: list[int | None]
    type_ids: list[int]
    truncated: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def word_offsets(self, type_id: int = 0) -> list[tuple[int, int]]:
        """Start and end, in characters, of each word of the first text (`type_id` 0) or the second (1), in order."""
        spans: list[tuple[int, int]] = []
        last = None
        for word, (start, end), kind in zip(self.word_ids, self.offsets, self.type_ids, strict=True):
            if word is None or kind != type_id:
                continue
            if word == last:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
            last = word
        return spans
