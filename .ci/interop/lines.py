"""Writes the lines that are delivered, always the same: lines.py FILE COUNT.

Each is a JSON object whose field "key" is a partition key of 1 to 256 UTF-16 units in all kinds of scripts, and whose
field "payload" is a text of 0 to 900 KiB. A third of the keys come again and again, the others once.
"""
import base64
import json
import random
import sys

KEY_UNITS_MAX = 256
PAYLOAD_BYTES_MAX = 900 << 10
SEED = 20131202

# First and last character of what keys are made of.
SCRIPTS = [
    (0x21, 0x7E), (0xA1, 0x17F), (0x391, 0x3C9), (0x410, 0x44F), (0x5D0, 0x5EA), (0x621, 0x64A), (0x915, 0x939),
    (0xE01, 0xE2E), (0x10A0, 0x10C5), (0x1200, 0x1248), (0x3041, 0x3096), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3),
    (0x1F300, 0x1F64F), (0x20000, 0x2A6DF), (0x100000, 0x10FFFD),
]
MARKS = ["\u0301", "\u0308", "\u0327", "\u094d", "\u0e49", "\u20e3", "\u200d", "\ufe0f", "\U0001f3fd"]
# What parsers and escapes stumble over.
ODD = ["\"", "\\", "/", "\t", "\n", "\r", "\x01", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffd", "\uffff"]

draw = random.Random(SEED)


def units(text):
    return len(text.encode("utf-16-le")) // 2


def key(length):
    """A key of exactly so many UTF-16 units."""
    text, left = [], length
    while left > 0:
        kind = draw.random()
        if kind < 0.1:
            character = draw.choice(ODD)
        elif kind < 0.3 and text:
            character = draw.choice(MARKS)
        else:
            character = chr(draw.randint(*draw.choice(SCRIPTS)))
        if units(character) <= left:
            text.append(character)
            left -= units(character)
    return "".join(text)


def key_length():
    # Long keys are rarer than short ones, but the limit itself is not rare.
    return KEY_UNITS_MAX if draw.random() < 0.01 else int(KEY_UNITS_MAX ** (draw.random() * draw.random()))


def payload(number):
    if number == 999:
        length = PAYLOAD_BYTES_MAX
    elif number % 5000 == 4999:
        length = draw.randint(PAYLOAD_BYTES_MAX // 9, PAYLOAD_BYTES_MAX)
    elif number % 250 == 249:
        length = int(1024 * 64 ** draw.random())
    elif number % 10 == 9:
        return key(draw.randint(1, 50))
    else:
        length = int(256 ** draw.random()) - 1
    return base64.b64encode(draw.randbytes(length * 3 // 4 + 1)).decode()[:length]


path, count = sys.argv[1], int(sys.argv[2])
repeated = [key(key_length()) for _ in range(300)] + [key(KEY_UNITS_MAX), key(1), "\U0001f980" * (KEY_UNITS_MAX // 2)]
with open(path, "w", encoding="utf-8", newline="\n") as file:
    for number in range(count):
        own = draw.choice(repeated) if draw.random() < 1 / 3 else key(key_length())
        line = {"number": number, "key": own, "payload": payload(number)}
        # Every fourth line spells its key in escapes, with surrogate pairs.
        file.write(json.dumps(line, ensure_ascii=number % 4 == 0) + "\n")
