"""The BERT models with a short name: ours, and those that Google published.

Facts and addresses of the archives: the README of
[google-research/bert](https://github.com/google-research/bert), which puts them all under Apache-2.0.
Vocabulary sizes: the `config.json` of the same models on Hugging Face. Handles of TF-Hub: the
tutorials of tensorflow/text and the model table of SageMaker JumpStart. Kaggle took TF-Hub over in
2023; its handles are those that tfhub.dev redirects to. What is cased: Google's own list, in
`validate_case_matches_checkpoint` of tokenization.py.
"""

import dataclasses
import difflib
import json
import re

from keras_bert_app.bundled import DEFAULT

GOOGLE = "https://storage.googleapis.com/bert_models/"
TFHUB = "https://tfhub.dev/tensorflow/"
KAGGLE = "kaggle://tensorflow/bert/tensorFlow2/"
# What tfhub.dev calls bert_... is called ... on Kaggle, and small_bert/bert_... is called bert-...
TFHUB_BERT = re.compile(
    r"https?://(?:www\.)?tfhub\.dev/tensorflow/(?:bert_|small_bert/(?=bert_))([\w-]+)/(\d+)"
)


@dataclasses.dataclass(frozen=True)
class PublishedModel:
    """One published model.

    Args:
        name: short name, that `download` and `from_pretrained` take.
        handles: where it is, the first to be tried first; none for the one that comes with the package.
        num_layers: transformer blocks.
        hidden_size: width of every token's vector.
        num_heads: attention heads of each block.
        vocab_size: word pieces.
        cased: whether upper case and accents count.
        language: `"English"`, `"Chinese"` or the number of languages.
        about: what else there is to know.
        aliases: other short names.
        license: SPDX name of the licence.
    """

    name: str
    handles: tuple
    num_layers: int
    hidden_size: int
    num_heads: int
    vocab_size: int
    cased: bool
    language: str
    about: str = ""
    aliases: tuple = ()
    license: str = "Apache-2.0"

    @property
    def num_parameters(self):
        """Parameters of the encoder with its pooler, without the heads of pretraining."""
        hidden = self.hidden_size
        embeddings = (self.vocab_size + 512 + 2 + 2) * hidden  # words, positions, segments, normalization
        attention = 4 * (hidden + 1) * hidden
        feed_forward = (hidden + 1) * 4 * hidden + (4 * hidden + 1) * hidden
        layer = attention + feed_forward + 4 * hidden  # two normalizations
        return embeddings + self.num_layers * layer + (hidden + 1) * hidden


WHOLE_WORDS = "pretrained by masking whole words"
# name, TF-Hub name, archive, layers, hidden, heads, vocabulary, cased, language, about, whether the Kaggle
# handle was seen, Hugging Face name
LARGER = (
    ("bert_base_en_uncased", "bert_en_uncased_L-12_H-768_A-12", "2018_10_18/uncased_L-12_H-768_A-12",
     12, 768, 12, 30522, False, "English", "", True, "bert-base-uncased"),
    ("bert_base_en", "bert_en_cased_L-12_H-768_A-12", "2018_10_18/cased_L-12_H-768_A-12",
     12, 768, 12, 28996, True, "English", "", True, "bert-base-cased"),
    ("bert_base_zh", "bert_zh_L-12_H-768_A-12", "2018_11_03/chinese_L-12_H-768_A-12",
     12, 768, 12, 21128, False, "Chinese", "", True, "bert-base-chinese"),
    ("bert_base_multi", "bert_multi_cased_L-12_H-768_A-12", "2018_11_23/multi_cased_L-12_H-768_A-12",
     12, 768, 12, 119547, True, "104 languages", "", True, "bert-base-multilingual-cased"),
    ("bert_base_multi_uncased", None, "2018_11_03/multilingual_L-12_H-768_A-12",
     12, 768, 12, 105879, False, "102 languages", "Google recommends bert_base_multi", False,
     "bert-base-multilingual-uncased"),
    ("bert_large_en_uncased", "bert_en_uncased_L-24_H-1024_A-16", "2018_10_18/uncased_L-24_H-1024_A-16",
     24, 1024, 16, 30522, False, "English", "", True, "bert-large-uncased"),
    ("bert_large_en", "bert_en_cased_L-24_H-1024_A-16", "2018_10_18/cased_L-24_H-1024_A-16",
     24, 1024, 16, 28996, True, "English", "", False, "bert-large-cased"),
    ("bert_large_en_uncased_wwm", "bert_en_wwm_uncased_L-24_H-1024_A-16",
     "2019_05_30/wwm_uncased_L-24_H-1024_A-16",
     24, 1024, 16, 30522, False, "English", WHOLE_WORDS, False, "bert-large-uncased-whole-word-masking"),
    ("bert_large_en_wwm", "bert_en_wwm_cased_L-24_H-1024_A-16", "2019_05_30/wwm_cased_L-24_H-1024_A-16",
     24, 1024, 16, 28996, True, "English", WHOLE_WORDS, False, "bert-large-cased-whole-word-masking"),
)  # fmt: skip

# Four of the 24 small models have names of their own, in the README and in KerasHub.
NAMED = {(2, 128): "tiny", (4, 256): "mini", (4, 512): "small", (8, 512): "medium"}


def models():
    """The model that comes with the package and all that Google published, larger ones first.

    Returns:
        list of `PublishedModel`.

    Example:

    >>> [model.name for model in models() if not model.cased and model.num_layers == 24]
    ['bert_large_en_uncased', 'bert_large_en_uncased_wwm']
    """
    about = "comes with this package, pretrained on film reviews"
    found = [PublishedModel(DEFAULT, (), 4, 256, 4, 12000, False, "English", about)]
    for name, hub, archive, layers, hidden, heads, words, cased, language, about, on_kaggle, face in LARGER:
        handles = [f"{GOOGLE}{archive}.zip"]
        if hub:
            handles.append(f"{TFHUB}{hub}/4")
        if on_kaggle:
            handles.append(kaggle_handle(handles[-1]))
        handles.append(f"hf://google-bert/{face}")
        sizes = layers, hidden, heads, words, cased, language
        found.append(PublishedModel(name, tuple(handles), *sizes, about, (hub,) if hub else ()))
    for layers in (12, 10, 8, 6, 4, 2):
        for hidden in (768, 512, 256, 128):
            found.append(_small(layers, hidden))
    return found


def show(as_json=False):
    """The published models as a table, or as JSON lines that have their handles too."""
    if as_json:
        return "\n".join(json.dumps(dataclasses.asdict(model)) for model in models())
    lines = [f"{'name':36}{'layers':>6}{'hidden':>8}{'parameters':>12}  {'case':9}language"]
    for model in models():
        sizes = f"{model.num_layers:6}{model.hidden_size:8}{model.num_parameters / 1e6:10.1f} M"
        case = "cased" if model.cased else "uncased"
        about = ", ".join(text for text in (model.language, model.about) if text)
        lines.append(f"{model.name:36}{sizes}  {case:9}{about}")
    lines += ["", "The others by Google; licence Apache-2.0. --json has other names and where they are."]
    return "\n".join(lines)


def _small(layers, hidden):
    """One of the 24 models of Turc et al., [Well-Read Students Learn Better](https://arxiv.org/abs/1908.08962)."""
    sizes = f"uncased_L-{layers}_H-{hidden}_A-{hidden // 64}"
    handle = f"{TFHUB}small_bert/bert_en_{sizes}/2"
    name, about, aliases = f"bert_en_{sizes}", "", [f"small_bert/bert_en_{sizes}"]
    if (layers, hidden) == (12, 768):  # on TF-Hub, the bare name is that of the model of 2018
        name, about = f"bert_en_{sizes}_2020", "bert_base_en_uncased, trained again"
    if (layers, hidden) in NAMED:
        aliases += [f"bert_{NAMED[layers, hidden]}", f"bert_{NAMED[layers, hidden]}_en_uncased"]
    handles = f"{GOOGLE}2020_02_20/{sizes}.zip", handle, kaggle_handle(handle), f"hf://google/bert_{sizes}"
    return PublishedModel(
        name, handles, layers, hidden, hidden // 64, 30522, False, "English", about, tuple(aliases)
    )


def handles_of(name):
    """The handles of a published model.

    Args:
        name: short name, such as `"bert_base_en_uncased"` or `"bert_tiny"`.

    Returns:
        tuple of handles, the first to be tried first.

    Raises:
        ValueError: no model has the name; the message has those that are like it.

    Example:

    >>> handles_of("bert_tiny")[0]
    'https://storage.googleapis.com/bert_models/2020_02_20/uncased_L-2_H-128_A-2.zip'
    """
    handles = {other: model.handles for model in models() for other in (model.name, *model.aliases)}
    if name not in handles:
        like = difflib.get_close_matches(name, handles, n=3, cutoff=0.5)
        raise ValueError(
            f"there is no model {name!r}: "
            + (f"did you mean {' or '.join(like)}?" if like else "`keras-bert models` lists them.")
        )
    return handles[name]


def kaggle_handle(tfhub_url):
    """Where on Kaggle a BERT of tfhub.dev is.

    The rule was seen to hold for the base models, the large uncased one, the small ones and the
    preprocessors; that it does for the others too is likely.

    Args:
        tfhub_url: such as `"https://tfhub.dev/tensorflow/bert_en_uncased_L-12_H-768_A-12/4"`.

    Returns:
        a `kaggle://` handle, or None if it is no such address.

    Example:

    >>> kaggle_handle("https://tfhub.dev/tensorflow/small_bert/bert_en_uncased_L-4_H-512_A-8/2")
    'kaggle://tensorflow/bert/tensorFlow2/bert-en-uncased-l-4-h-512-a-8/2'
    """
    match = TFHUB_BERT.fullmatch(tfhub_url)
    if match is None:
        return None
    return f"{KAGGLE}{match[1].replace('_', '-').lower()}/{match[2]}"
