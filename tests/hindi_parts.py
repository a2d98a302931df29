"""The Hindi of a lesson: in each markdown cell one folded part, at the cell's end, of one form everywhere."""

import re

OPENING = '<details class="hindi" lang="hi"><summary>हिन्दी</summary>'
# Words that wandered, and the one that the glossary chose.
WRONG = {
    "हानि": "लॉस", "वेट": "भार", "वज़न": "भार", "संभावना": "प्रायिकता", "ट्रेनिंग": "प्रशिक्षण", "न्यूनतम": "निचली",
    "खर्च": "ख़र्च", "कदम": "क़दम", "ग्रेडिएंट": "ढाल", "ग्रेडियंट": "ढाल", "पैडिंग": "भरावन (padding)",
    "वैल्यू": "मान (value)", "की-वैल्यू": "कुंजी और मान", "ध्यान": "अटेंशन", "हिंदी": "हिन्दी", "रैंडम": "यादृच्छिक",
    "एरर": "त्रुटि", "पोजीशन": "पोज़िशन", "वितरण": "बंटन", "लॉग": "लघुगणक", "फ़्लोर": "निचली सीमा", "कॉलम": "स्तंभ",
    "खाना": "ख़ाना", "खाने": "ख़ाने", "खानों": "ख़ानों", "रिवॉर्ड": "इनाम", "लेयर": "परत", "स्टेप": "क़दम", "स्थान": "पोज़िशन",
}  # fmt: skip
ALLOWED = ("न्यूनतम जोड़", "का ध्यान रखिए")  # a term of its own; to mind something
INFORMAL = r"\b(?:तू|तुम|तुम्हें|तुम्हारा|तुम्हारी|तेरा)\b|(?:करो|लो|चुनो|जोड़ो|नापो|पूछो|देखो|पढ़ो|लिखो)(?=[\s,।;:])"
_PART = re.compile(re.escape(OPENING) + r"\n\n(.+?)\n\n</details>", re.DOTALL)


def hindi_of(cell_text: str) -> str | None:
    """The Hindi at the end of a markdown cell, without its fold; None if there is none."""
    found = re.search(r"(?:^|\n\n)" + _PART.pattern + r"\Z", cell_text.rstrip(), re.DOTALL)
    return found[1] if found else None


def without_hindi(text: str) -> str:
    """What a reader of English reads: they leave the Hindi folded."""
    return _PART.sub("", text)


def wandering_words(hindi: str) -> list[str]:
    """What is not as the glossary has it: words that it has otherwise, with its own, and forms that are not आप."""
    text = re.sub(r"“[^”]*”|`[^`]*`", "", hindi)  # what a story says is the story's
    for phrase in ALLOWED:
        text = re.sub(rf"{phrase}\S*", "", text)
    said = set(re.findall(r"[ऀ-ॿ-]+", text))
    return [f"{word}: {right}" for word, right in WRONG.items() if word in said] + re.findall(INFORMAL, text)
