"""A strict reader and a writer of the CBOR that messages are made of. Spec: messages 2.

Values are ints, bytes, str, bool, list, and dict with int keys.
"""

MESSAGE_MAX = 16 * 1024
DEPTH_MAX = 4


class WireError(Exception):
    """Bytes that are no message: `name` and, where there is one, `message` and `key`."""

    CODES = {
        "Empty": 1, "TooLong": 2, "Truncated": 3, "Trailing": 4, "NotShortest": 5,
        "Indefinite": 6, "KeyOrder": 7, "KeyType": 8, "TooDeep": 9, "Unsupported": 10,
        "NotUtf8": 11, "NoType": 12, "UnknownType": 13, "UnknownKey": 14, "Missing": 15,
        "WrongKind": 16, "OutOfRange": 17,
    }

    def __init__(self, name, message=None, key=None):
        super().__init__(name, message, key)
        self.name, self.message, self.key = name, message, key

    def as_json(self):
        said = {"name": self.name, "code": str(self.CODES[self.name])}
        if self.message is not None:
            said["message"] = str(self.message)
        if self.key is not None:
            said["key"] = str(self.key)
        return said


def read(data):
    """The one value that `data` is."""
    if not data:
        raise WireError("Empty")
    if len(data) > MESSAGE_MAX:
        raise WireError("TooLong")
    value, end = _value(data, 0, DEPTH_MAX)
    if end != len(data):
        raise WireError("Trailing")
    return value


def _value(data, at, depth):
    major, argument, at = _head(data, at)
    if major == 0:
        return argument, at
    if major in (2, 3):
        if len(data) - at < argument:
            raise WireError("Truncated")
        raw, at = data[at:at + argument], at + argument
        if major == 2:
            return raw, at
        try:
            return raw.decode("utf-8"), at
        except UnicodeDecodeError:
            raise WireError("NotUtf8") from None
    if major in (4, 5):
        if depth == 0:
            raise WireError("TooDeep")
        container = _list if major == 4 else _map
        return container(data, at, argument, depth - 1)
    if major == 7 and argument in (20, 21):
        return argument == 21, at
    raise WireError("Unsupported")


def _list(data, at, count, depth):
    items = []
    for _ in range(count):
        item, at = _value(data, at, depth)
        items.append(item)
    return items, at


def _map(data, at, count, depth):
    pairs, last = {}, -1
    for _ in range(count):
        major, key, at = _head(data, at)
        if major != 0:
            raise WireError("KeyType")
        if key <= last:
            raise WireError("KeyOrder")
        last = key
        pairs[key], at = _value(data, at, depth)
    return pairs, at


def _head(data, at):
    if at >= len(data):
        raise WireError("Truncated")
    major, info = data[at] >> 5, data[at] & 0x1F
    at += 1
    if info < 24:
        return major, info, at
    if info == 31:
        raise WireError("Indefinite")
    if info > 27 or major == 7:
        raise WireError("Unsupported")
    size = 1 << (info - 24)
    if len(data) - at < size:
        raise WireError("Truncated")
    argument = int.from_bytes(data[at:at + size], "big")
    least = 24 if size == 1 else 1 << (4 * size)
    if argument < least:
        raise WireError("NotShortest")
    return major, argument, at + size


def write(value):
    """The one encoding of `value`."""
    if isinstance(value, bool):
        return bytes([0xF5 if value else 0xF4])
    if isinstance(value, int):
        return _write_head(0, value)
    if isinstance(value, bytes):
        return _write_head(2, len(value)) + value
    if isinstance(value, str):
        raw = value.encode("utf-8")
        return _write_head(3, len(raw)) + raw
    if isinstance(value, list):
        return _write_head(4, len(value)) + b"".join(map(write, value))
    pairs = sorted(value.items())
    return _write_head(5, len(pairs)) + b"".join(write(k) + write(v) for k, v in pairs)


def _write_head(major, argument):
    if argument < 24:
        return bytes([major << 5 | argument])
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << (8 * size):
            return bytes([major << 5 | info]) + argument.to_bytes(size, "big")
    raise ValueError(argument)
