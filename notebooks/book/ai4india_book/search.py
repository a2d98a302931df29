"""A search that knows Indian words: Sphinx takes vowel signs for ends of words, and cuts कहानी into कह and न.

Words keep their marks; a word is found however its letters are stored (NFC), with or without nukta (ज़, ज), and with
chandrabindu or anusvara (ँ, ं), for phones' keyboards differ. The same rule stands here in Python, for the index, and in
JavaScript, for what the reader types.
"""

import unicodedata

import regex
from sphinx.search.en import SearchEnglish

WORD = regex.compile(r"[\p{L}\p{N}\p{M}_]+")
LOOK_ALIKE = str.maketrans("ँ", "ं", "\u093c\u200c\u200d")
JAVASCRIPT = r"""
var splitQuery = (query) =>
  query
    .normalize("NFC")
    .replace(/[\u093c\u200c\u200d]/g, "")
    .replace(/\u0901/g, "\u0902")
    .split(/[^\p{L}\p{N}\p{M}_]+/u)
    .filter((term) => term);
"""


def split(text):
    """The words of a text, as the index keeps them."""
    return WORD.findall(unicodedata.normalize("NFC", text).translate(LOOK_ALIKE))


class SearchWords(SearchEnglish):
    lang = "ai4india"
    language_name = "English"  # Sphinx names the JavaScript stemmer so
    js_splitter_code = JAVASCRIPT

    def split(self, input):
        return split(input)


def setup(app):
    app.add_search_language(SearchWords)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
