"""What BERT's tokenizer makes of each character, as a model for tensorflow-text's fast normalizer.

tensorflow-text's own model folds case and applies NFKC, which Google's tokenizer does not. The
kernel does nothing but look up each character in the model it is given, so another model makes it
exact, in the graph and at full speed. A served model carries its table with it.
"""

import functools
import unicodedata

import flatbuffers
import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

REMOVED = {"Cc", "Cf", "Co"}  # control, format and private use characters
SPACES = {"Zs", "Zl", "Zp"}

# Where characters are, in Unicode: the first four planes, tags, and the two private planes.
ASSIGNED = (range(0x40000), range(0xE0000, 0xE1000), range(0xF0000, 0x110000))
SURROGATES = range(0xD800, 0xE000)

# Placeholders of special tokens that are written in a text. In the text stands a control character,
# which no cleaned text has. The word piece kernel must take it for a word: it becomes a CJK character
# that is not assigned, and the last of those stands in for all that a text may hold by itself.
CONTROLS = [chr(code) for code in (*range(1, 9), 11, 12, *range(14, 32))]
WORDS = [chr(code) for code in range(0xFADA, 0xFADA + len(CONTROLS))]
UNKNOWN_WORD = chr(0xFAFF)

# Hugging Face takes these for letters, Google and the kernel for ideographs that are words: the range of
# extension E begins at 2B920 in one program and at 2B820 in the other.
LETTERS = [chr(code) for code in range(0x2B820, 0x2B920)]
UNKNOWN_LETTER = "\ufffe"


@functools.lru_cache
def normalizer(lowercase, strip_accents, num_placeholders=0, keep_letters=False):
    """The normalizer of a BERT tokenizer.

    Args:
        lowercase: True to lowercase.
        strip_accents: True to decompose (NFD) and drop nonspacing marks.
        num_placeholders: how many of `CONTROLS` become the word of `WORDS` at their index.
        keep_letters: True if the vocabulary has one of `LETTERS`.

    Returns:
        `(normalizer, growth)`: `tf_text.FastBertNormalizer`, and how many characters one character
        becomes at most.
    """
    table = dict(character_table(lowercase, strip_accents))
    if num_placeholders:
        table |= dict.fromkeys(WORDS, UNKNOWN_WORD)
        table |= dict(zip(CONTROLS[:num_placeholders], WORDS, strict=False))
    if not keep_letters:
        table |= dict.fromkeys(LETTERS, UNKNOWN_LETTER)
    with tf.init_scope():
        model = tf_text.FastBertNormalizer(model_buffer=tf.constant(normalizer_model(table)))
    return model, max(map(len, table.values()))


@functools.lru_cache
def character_table(lowercase, strip_accents):
    """What each character becomes that does not stay as it is.

    Control, format and private use characters and U+FFFD become "", white space becomes " ".
    Every other character is decomposed, stripped and lowercased by itself, which is what
    Hugging Face does too; so a final sigma is not told from another.

    Args:
        lowercase: see `normalizer`.
        strip_accents: see `normalizer`.

    Returns:
        dict from character to str.
    """
    table = {}
    for code in (code for part in ASSIGNED for code in part if code not in SURROGATES):
        character = text = chr(code)
        category = unicodedata.category(character)
        if character in "\t\n\r" or category in SPACES:
            text = " "
        elif character == "\ufffd" or category in REMOVED:
            text = ""
        elif category != "Cn":
            if strip_accents and (category == "Mn" or not unicodedata.is_normalized("NFD", text)):
                text = unicodedata.normalize("NFD", text)
                text = "".join(c for c in text if unicodedata.category(c) != "Mn")
            if lowercase:
                text = text.lower() if len(text) == 1 else "".join(c.lower() for c in text)
        if text != character:
            table[character] = text
    return table


def normalizer_model(table):
    """`table` in the format that the kernel reads.

    It is a flatbuffer with a double-array trie over the UTF-8 bytes of the characters, whose values
    point into a pool of strings. Units of the array, from the lowest bit: label (8 bits), whether a
    value follows (1), whether the offset is shifted (1, always 0 here), offset to the children (21).

    Args:
        table: from `character_table`.

    Returns:
        uint8 array `(bytes,)`.

    Reference: `fast_bert_normalizer.h` and `darts_clone_trie_wrapper.h` of
    [tensorflow/text](https://github.com/tensorflow/text).
    """
    pool, values = b"", {}
    for text in sorted(set(table.values())):
        encoded = text.encode()
        values[text] = 1 << 30 | len(pool) << 6 | len(encoded)  # changed, where, how long
        pool += encoded
    # Every node's children stand in a block of 256 of their own, the last byte's values in blocks before.
    # Equal blocks, such as those of the private planes, are stored once.
    places = {value: 256 + index for index, value in enumerate(values.values())}
    size = 256 * (2 + len(places) // 256)
    units = np.full(size, 1 << 31, np.uint32)  # a unit of no label, which no byte matches
    units[list(places.values())] |= np.array(list(places), np.uint32)
    blocks, found = [units], {}

    def place(node):
        """Where the children of `node` begin, a dict from byte to node or value."""
        nonlocal size
        children = {
            byte: (places[child], 1) if isinstance(child, int) else (place(child), 0)
            for byte, child in node.items()
        }
        key = tuple(children.items())
        if key not in found:
            found[key] = size
            block = np.full(256, 1 << 31, np.uint32)
            for byte, (target, is_value) in children.items():
                block[byte] = (size ^ byte ^ target) << 10 | is_value << 8 | byte
            blocks.append(block)
            size += 256
        return found[key]

    root = {}
    for character, text in table.items():
        node = root
        *first, last = character.encode()
        for byte in first:
            node = node.setdefault(byte, {})
        node[last] = values[text]
    units[0] = place(root) << 10
    builder = flatbuffers.Builder()
    strings = builder.CreateNumpyVector(np.frombuffer(pool, np.uint8))
    trie = builder.CreateNumpyVector(np.concatenate(blocks))
    builder.StartObject(4)
    builder.PrependUOffsetTRelativeSlot(1, trie, 0)
    builder.PrependInt32Slot(2, values[table["\0"]], 0)  # the kernel does not look up a null byte
    builder.PrependUOffsetTRelativeSlot(3, strings, 0)
    builder.Finish(builder.EndObject())
    return np.frombuffer(bytes(builder.Output()), np.uint8)
