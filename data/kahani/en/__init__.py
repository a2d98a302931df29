"""English: words in lexicon.toml and verbs.toml, frames in plots/ and shared.txt, agreement in grammar.py."""
