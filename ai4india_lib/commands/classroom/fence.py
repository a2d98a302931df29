"""What the code of learners may do while it is marked: the system's limits, the kernel's fence, Python's own guard.

The limits hold where the system has them. The fence is Linux's Landlock (5.13 and later): nothing outside of one folder
can be written, by no library and in no language, no program started, and on new kernels no process outside ended. The
guard works on all systems, within Python: what goes past Python, as in a library written in C, it does not see.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

MOST_WRITTEN = 32_000_000  # bytes of one file
MOST_PROCESSES = 100  # and threads, above those that this user has (Linux; not for root)
MOST_OPENED = 100  # files that one answer opens to write
REFUSED = """os.system os.exec os.fork os.forkpty os.posix_spawn os.spawn os.startfile os.kill os.killpg pty.spawn
subprocess.Popen ctypes.dlopen ctypes.dlsym socket.connect socket.bind socket.getaddrinfo socket.sendto webbrowser.open
gc.get_objects gc.get_referrers gc.get_referents resource.setrlimit resource.prlimit sys._current_frames""".split()
CHANGES = "os.remove os.rename os.rmdir os.mkdir os.link os.symlink os.truncate os.chmod os.chown os.utime".split()
READS = ("os.listdir", "os.scandir", "os.chdir")


def guard(room: Path, closed: list[str]) -> None:
    """From here on this process starts no other one, opens no network, and changes files in `room` only.

    What lies in the folders `closed`, others' works and the solutions, cannot be read.
    """
    real, inside, is_folder = os.path.realpath, os.path.realpath(room) + os.sep, os.path.isdir
    shut = tuple(os.path.realpath(folder) + os.sep for folder in closed)
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    opened = [0]

    def place(path: object) -> str:
        return real(os.fsdecode(path)) + os.sep

    def refuse(event: str, given: tuple) -> None:
        if event in refused:
            raise PermissionError(f"where answers are marked, {event} is not allowed")
        if event == "open" and isinstance(given[0], str | bytes):
            there, flags = place(given[0]), given[2] if isinstance(given[2], int) else 0
            if flags & writing:
                opened[0] += 1
                if opened[0] > MOST_OPENED:
                    raise PermissionError("where answers are marked, so many files cannot be written")
            if (flags & writing or is_folder(there)) and not there.startswith((inside, os.devnull)):
                raise PermissionError(f"where answers are marked, {given[0]!r} cannot be opened to write")
            if there.startswith(shut):
                raise PermissionError(f"where answers are marked, {given[0]!r} cannot be read")
        elif event in changes:
            for path in given[:2]:
                if isinstance(path, str | bytes) and not place(path).startswith(inside):
                    raise PermissionError(f"where answers are marked, {path!r} cannot be changed")
        elif event in reads and isinstance(given[0], str | bytes) and place(given[0]).startswith(shut):
            raise PermissionError(f"where answers are marked, {given[0]!r} cannot be read")

    refused, changes, reads = frozenset(REFUSED), frozenset(CHANGES), frozenset(READS)
    sys.addaudithook(refuse)


def limit(memory: int, seconds: float, processes: int) -> None:
    """Limits of the system, where it has them: memory above today's, CPU seconds, size of a file, processes."""
    try:
        import resource
    except ImportError:  # Windows
        return
    wanted = {"RLIMIT_CPU": int(seconds) + 5, "RLIMIT_FSIZE": MOST_WRITTEN, "RLIMIT_CORE": 0}
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        wanted |= {"RLIMIT_AS": pages * resource.getpagesize() + memory, "RLIMIT_NPROC": processes}
    for name, most in wanted.items():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))


def processes_now() -> int:
    """Processes and threads of this user."""
    import psutil

    mine = psutil.Process().username()
    everybody = (one.info for one in psutil.process_iter(["username", "num_threads"]))
    return sum(one["num_threads"] or 1 for one in everybody if one["username"] == mine)


# Landlock's bits: https://docs.kernel.org/userspace-api/landlock.html
_EXECUTE, _WRITE, _REMOVE_AND_MAKE, _TRUNCATE = 1 << 0, 1 << 1, 0b1_1111_1111 << 4, 1 << 14
_NETWORK, _SIGNALS_AND_SOCKETS = 0b11, 0b11
_CREATE, _ADD, _RESTRICT = 444, 445, 446  # system calls, the same on every processor
_PR_SET_NO_NEW_PRIVS = 38


def fence(room: Path) -> bool:
    """Let the kernel see to it that this process writes in `room` only, for ever; False where the kernel cannot."""
    if sys.platform != "linux":
        return False
    import ctypes

    class Rules(ctypes.Structure):
        _fields_ = [(name, ctypes.c_uint64) for name in ("files", "network", "scoped")]

    class Rule(ctypes.Structure):
        _pack_ = 1
        _fields_ = [("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32)]

    system = ctypes.CDLL(None, use_errno=True)
    version = system.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    writing = _WRITE | _REMOVE_AND_MAKE | (_TRUNCATE if version >= 3 else 0)
    rules = Rules(_EXECUTE | writing, _NETWORK if version >= 4 else 0, _SIGNALS_AND_SOCKETS if version >= 6 else 0)
    size = ctypes.c_size_t(24 if version >= 6 else 16 if version >= 4 else 8)
    ruleset = system.syscall(_CREATE, ctypes.byref(rules), size, ctypes.c_uint32(0))
    if ruleset < 0:
        return False
    for path, allowed in ((room, writing), (Path(os.devnull), writing & (_WRITE | _TRUNCATE))):
        place = os.open(path, os.O_PATH)
        rule = Rule(allowed, place)
        system.syscall(_ADD, ruleset, 1, ctypes.byref(rule), ctypes.c_uint32(0))
        os.close(place)
    system.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    held = system.syscall(_RESTRICT, ruleset, ctypes.c_uint32(0)) == 0
    os.close(ruleset)
    return held
