"""Words of a text as people tag them: with the full stops of `U.S` and the apostrophe of `don't`."""

import tensorflow as tf
import tensorflow_text as tf_text

from keras_bert_app.preprocessing import inputs, offsets

# A CJK character is a word of its own, as to BERT's tokenizer.
CJK = r"\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}\x{20000}-\x{2FA1F}"
LETTER = rf"[^\s\p{{Z}}\p{{Cc}}\p{{P}}\p{{S}}{CJK}]"
JOINER = r"['\x{2019}.&@:/+_-]"  # between letters, it is part of their word
WORD = rf"[@#]?{LETTER}+(?:{JOINER}+{LETTER}+)*|[^\s\p{{Z}}\p{{Cc}}]"
SPACE = r"[\s\p{Z}\p{Cc}]+"


def split_words(text):
    """Splits texts into words, for labels of words.

    A word is what stands between spaces and punctuation; `'`, `.`, `&`, `@`, `:`, `/`, `+`, `_` and `-`
    between its letters are part of it, and `@` or `#` before them. Any other sign, and every CJK
    character, is a word of its own.

    Args:
        text: str, list, array or string tensor `(batch,)`.

    Returns:
        dict of `tf.RaggedTensor` `(batch, words)`: `words`, string; `starts` and `ends`, int32, the
        characters of the text from which to which each word goes.

    Example:

    >>> found = split_words("Anna's U.S. visit, again")
    >>> [word.decode() for word in found["words"][0].numpy()]
    ["Anna's", 'U.S', '.', 'visit', ',', 'again']
    >>> found["starts"][0].numpy()
    array([ 0,  7, 10, 12, 17, 19], dtype=int32)
    """
    text = inputs.to_string_tensor(text)
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
    words, starts, ends = tf_text.regex_split_with_offsets(text, f"{WORD}|{SPACE}", WORD)
    counts, first = offsets.count_characters(text)
    shift = offsets.repeat(first, words.row_lengths())
    before = tf.gather(counts, shift)

    def characters(places):
        places = shift + tf.cast(places.values, tf.int32)
        return words.with_values(tf.gather(counts, places) - before)

    return {"words": words, "starts": characters(starts), "ends": characters(ends)}
