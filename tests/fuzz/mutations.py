"""Mutations of bytes, of JSON-like values, of lines and of fields, all drawn from a seed."""

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

_LONGEST = 40  # bytes that a mutation of bytes changes at a time
_DEPTH = 100_000  # of nested lists; Python's JSON reader admits some 1,000
_DEEP = "a value that is nested deep"  # stands for such a value until the JSON is written
# Text that readers of names, numbers and prototxts may stumble over.
_TEXTS = (
    "", " ", "0", "-1", "nan", "inf", "1e400", "9" * 400, "x" * 300, "é" * 200, "\0", "\n", "a\nb",
    "\ud800", "../../x.jpg", "/etc/hostname", "/dev/zero", "a/b/c", ".", "%s%n{}", "true", "null",
)  # fmt: skip
_NUMBERS = (
    0, -1, 1, 2, 7, 0.5, -0.0, 1e9, 1e20, 1e300, -1e300, float("nan"), float("inf"), 2**31, 2**63,
    -(2**63), 2**64, 10**400, True, False,
)  # fmt: skip
_ODD_BYTES = (b"\0", b"\xff", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8)


def mutate_bytes(content: bytes, random: np.random.Generator) -> bytes:
    """Change, cut, repeat, move or replace one to four parts of a file."""
    mutated = bytearray(content)
    for _ in range(random.integers(1, 5)):
        size = max(len(mutated), 1)
        start, length = int(random.integers(size)), int(random.integers(1, _LONGEST))
        part = bytes(mutated[start : start + length])
        kind = random.integers(8)
        if kind == 0:
            mutated[start : start + length] = random.bytes(length)
        elif kind == 1:
            del mutated[start : start + length]
        elif kind == 2:
            mutated[start:start] = part * int(random.integers(1, 4))
        elif kind == 3:
            odd = _ODD_BYTES[random.integers(len(_ODD_BYTES))]
            mutated[start : start + len(odd)] = odd
        elif kind == 4:
            other = int(random.integers(size))
            mutated[other : other + length] = part
        elif kind == 5:
            mutated[start : start + 1] = bytes([random.integers(256)])
        elif kind == 6 and mutated:
            mutated[start % len(mutated)] ^= 1 << int(random.integers(8))
        elif random.random() < 0.3:  # the largest changes are made less often
            del mutated[start:]
    return bytes(mutated)


def odd_value(random: np.random.Generator) -> Any:
    """Return a value that a label file should not have, or only elsewhere."""
    kind = random.integers(6)
    if kind < 2:
        return _NUMBERS[random.integers(len(_NUMBERS))]
    if kind < 4:
        return _TEXTS[random.integers(len(_TEXTS))]
    values: tuple[Any, ...] = (
        None, [], {}, [[]], [None], [[[1]]], {"a": 1}, _DEEP, [0] * 1000, ["x"], [1e300] * 3,
    )  # fmt: skip
    return values[random.integers(len(values))]


def _slots(value: Any, limit: int = 20_000) -> list[tuple[Any, Any]]:
    """Return (container, key) of every value inside a value."""
    slots, pending = [], [value]
    while pending and len(slots) < limit:
        container = pending.pop()
        keys = container if isinstance(container, dict) else range(len(container))
        for key in keys:
            slots.append((container, key))
            if isinstance(container[key], dict | list):
                pending.append(container[key])
    return slots


def mutate_value(value: Any, random: np.random.Generator) -> Any:
    """Replace, remove, repeat or move one to three values inside dictionaries and lists."""
    value = copy.deepcopy(value)
    for _ in range(random.integers(1, 4)):
        slots = _slots(value) if isinstance(value, dict | list) else []
        if not slots or random.random() < 0.01:
            return odd_value(random)
        # Long lists of numbers would hide everything else.
        fields = [slot for slot in slots if not isinstance(slot[0], list)]
        pool = fields if fields and random.random() < 0.5 else slots
        container, key = pool[random.integers(len(pool))]
        kind = random.integers(5)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        elif kind == 2:
            other, other_key = slots[random.integers(len(slots))]
            container[key] = copy.deepcopy(other[other_key])
        else:
            container[key] = odd_value(random)
    return value


def mutate_json(content: bytes, random: np.random.Generator) -> bytes:
    """Mutate the bytes of a JSON file or, more often, a value in it."""
    if random.random() < 0.3:
        return mutate_bytes(content, random)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):  # a line that was mutated before
        return mutate_bytes(content, random)
    text = json.dumps(mutate_value(value, random))
    return text.replace(json.dumps(_DEEP), "[" * _DEPTH + "]" * _DEPTH).encode()


def mutate_json_line(line: str, random: np.random.Generator) -> str:
    """Mutate a line of JSON, for `mutate_lines`."""
    content = mutate_json(line.encode(errors="surrogatepass"), random)
    return content.decode(errors="surrogateescape")


def mutate_lines(
    line_mutation: Callable[[str, np.random.Generator], str],
) -> Callable[[bytes, np.random.Generator], bytes]:
    """Make a mutation of a text file out of one of a line."""

    def mutate(content: bytes, random: np.random.Generator) -> bytes:
        if random.random() < 0.2:
            return mutate_bytes(content, random)
        lines = content.decode().splitlines()
        for _ in range(random.integers(1, 4)):
            number, kind = int(random.integers(len(lines))), random.integers(6)
            if kind == 0 and len(lines) > 1:
                del lines[number]
            elif kind == 1:
                lines.insert(int(random.integers(len(lines))), lines[number])
            else:
                lines[number] = line_mutation(lines[number], random)
        return "\n".join(lines).encode("utf-8", "surrogatepass") + b"\n"

    return mutate


def odd_text(random: np.random.Generator) -> str:
    """Return a text or number that a field should not have."""
    if random.random() < 0.5:
        return str(_NUMBERS[random.integers(len(_NUMBERS))])
    return _TEXTS[random.integers(len(_TEXTS))]


def mutate_fields(line: str, random: np.random.Generator) -> str:
    """Replace, remove or repeat a field of a line of comma-separated values."""
    fields = line.split(",")
    index, kind = int(random.integers(len(fields))), random.integers(5)
    if kind == 0:
        del fields[index]
    elif kind == 1:
        fields.insert(index, fields[index])
    else:
        fields[index] = odd_text(random)
    return ",".join(fields)


_WORD = re.compile(r'"[^"]*"|[A-Za-z_]+|[-+.\w]+')


def mutate_prototxt_line(line: str, random: np.random.Generator) -> str:
    """Replace a word of a prototxt's line, or mutate the JSON of a `param_str`."""
    words = list(_WORD.finditer(line))
    if not words:
        return line
    if "param_str" in line and random.random() < 0.7:
        start, end = line.index('"') + 1, line.rindex('"')
        settings = line[start:end].replace('\\"', '"')
        mutated = mutate_json(settings.encode(), random).decode(errors="replace")
        for old, new in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\0", "\\000")):
            mutated = mutated.replace(old, new)
        return line[:start] + mutated + line[end:]
    word = words[-1] if random.random() < 0.8 else words[random.integers(len(words))]
    text = odd_text(random).replace("\n", "\\n").replace("\0", "\\0")
    if word[0].startswith('"'):
        text = '"' + text.replace('"', "") + '"'
    elif random.random() < 0.3:
        text = str(random.integers(-3, 40))
    return line[: word.start()] + text + line[word.end() :]
