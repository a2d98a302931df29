"""Writes a set of stories as `kahani-<language>.tar.gz`, the same bytes for the same language, counts and seed.

Inside, under `kahani-<language>/`: `train.txt` and `test.txt`, one story per line, and `about.json` with what is known
about them, among it the floor: the lowest number of bits per byte that any model can reach on average on these stories.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Iterable
from pathlib import Path

from .engine import Language


def tell_many(language: Language, stories: int, test_stories: int, seed: int) -> dict[str, bytes]:
    """Tells stories and returns the archive's files by name. Test stories come first, so more training keeps the test.

    Raises ValueError if a story comes twice. It is not drawn again: that would change the probabilities.
    """
    rng = random.Random(seed)
    told: set[str] = set()
    files: dict[str, bytes] = {}
    about: dict[str, object] = {"language": language.code, "seed": seed}
    for part, count in (("test", test_stories), ("train", stories)):
        texts, bits = [], 0.0
        for _ in range(count):
            story = language.tell(rng)
            texts.append(story.text)
            bits += story.bits
        told.update(texts)
        data = "".join(text + "\n" for text in texts).encode("utf-8")
        files[f"{part}.txt"] = data
        about[f"{part}_stories"] = count
        about[f"{part}_bytes"] = len(data)
        about[f"{part}_bits"] = round(bits, 3)
        about[f"{part}_floor_bits_per_byte"] = round(bits / len(data), 6) if data else None
    if len(told) < stories + test_stories:
        raise ValueError(f"{stories + test_stories - len(told)} stories came twice with seed {seed}: take another seed")
    files["about.json"] = (json.dumps(about, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode("utf-8")
    return files


def pack(files: dict[str, bytes], folder: str) -> bytes:
    """A tar of the files under a folder, with the same header fields everywhere: owner 0, time 0, mode 644."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(files):
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(files[name])
            tar.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()


def jsonl(items: Iterable[dict]) -> bytes:
    """One JSON object a line, in UTF-8, as short as JSON allows."""
    lines = (json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items)
    return "".join(line + "\n" for line in lines).encode("utf-8")


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file, which appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_packed(path: Path, files: dict[str, bytes], folder: str) -> None:
    """Writes files by name as a `.tar.gz` with this folder inside: the same bytes for the same files."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=9, mtime=0) as compressor:
        compressor.write(pack(files, folder))
    write_whole(path, packed.getvalue())


def write_archive(language: Language, path: Path, *, stories: int, test_stories: int, seed: int) -> dict:
    """Writes the archive and returns its `about.json`. The file appears whole or not at all."""
    files = tell_many(language, stories, test_stories, seed)
    write_packed(path, files, f"kahani-{language.code}")
    return json.loads(files["about.json"])
