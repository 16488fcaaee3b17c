"""The pieces of words BERT's tiny size reads: how they are learnt, which ship, and what training does with them."""

from __future__ import annotations

import numpy as np

from edgekit.models import _pieces, bert
from edgekit.processing.words import split_word, split_words
from tests import assets

TEXTS = [("Das Haus, das", "de"), ("Das Land", "de"), ("the house", "en"), ("the land 1", "en")]


def test_letters_and_marks_come_first_then_what_tells_most() -> None:
    pieces = _pieces.learn_pieces(TEXTS, 97)
    assert len(pieces) == len(set(pieces)) == 97
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
    fixed = [*_pieces.SPECIAL, *sorted({",", *alphabet}), *(f"##{letter}" for letter in alphabet)]
    assert pieces[: len(fixed)] == fixed
    told = pieces[len(fixed) :]
    assert told[:6] == ["##as", "da", "das", "##he", "th", "the"], "three words of one class, then two"
    assert "land" not in told, "it is in both classes and tells nothing"
    assert all(2 <= len(piece.removeprefix("##")) <= 5 for piece in told)


def test_the_vocabulary_that_ships_is_the_one_learnt_from_the_training_texts_of_bert() -> None:
    samples = assets.dataset("languages").samples("train")
    shipped = _pieces.read_pieces()
    texts = [(each.value, str(each.label)) for each in samples]
    assert _pieces.learn_pieces(texts, len(shipped)) == shipped
    assert _pieces.learn_pieces(texts[::-1], len(shipped)) == shipped
    known = set(shipped)
    words = [word for each in samples for word in split_words(each.value, lower=True)]
    assert not [word for word in words if split_word(word, known) == ["[UNK]"]]


def test_training_of_bert_deals_whole_words_of_the_same_language() -> None:
    family = bert.FAMILY
    texts = {0: ["keine Rechte, etwas zu ändern", "Link hinzufügen"], 1: ["aucun droit de modification", "ajouter"]}
    label = np.repeat([0, 1], 2)
    read = [family.processing.before(text, family.network().signature()) for row in texts.values() for text in row]
    feeds = {name: np.concatenate([each[name] for each in read]) for name in read[0]}
    assert family.training.augment is not None
    mixed, targets = family.training.augment(feeds, {"label": label}, np.random.default_rng(0))
    pieces = np.array(_pieces.read_pieces())
    assert targets["label"] is label
    np.testing.assert_array_equal(mixed["token_type_ids"], 0)
    blanked = 0
    for row in range(4):
        used = int(mixed["attention_mask"][row].sum())
        written = list(pieces[mixed["input_ids"][row]])
        assert written[0] == "[CLS]"
        assert written[used - 1] == "[SEP]"
        assert set(written[used:]) <= {"[PAD]"}
        own = {piece for each in np.flatnonzero(label == label[row]) for piece in pieces[feeds["input_ids"][each]]}
        assert set(written[1 : used - 1]) <= {*own, "[UNK]"}
        blanked += written.count("[UNK]")
    assert blanked < 0.5 * int(mixed["attention_mask"].sum())
    assert not np.array_equal(mixed["input_ids"], feeds["input_ids"])
