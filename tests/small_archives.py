"""A small corpus, and how to pack one: for tests of archives and of texts in them."""

import io
import tarfile

HI = "एक दिन की बात है।\nराजू स्कूल गया।\n".encode()
FILES = {"c/train.txt": HI, "c/test.txt": HI[: HI.index(10) + 1], "c/about.json": b'{"test_floor_bits_per_byte": 0.15}'}


def pack(path, files, mode="w:gz"):
    """`files`: name -> bytes, or a TarInfo without content; a list of pairs where a name comes twice."""
    with tarfile.open(path, mode) as tar:
        for name, content in files.items() if isinstance(files, dict) else files:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def entry(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info
