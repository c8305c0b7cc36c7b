"""Every message's keys, and how they are read. Spec: messages 3, registry."""

import unicodedata

from cbor import WireError, read

MONEY = 21_000_000 * 100_000_000 * 1000
U8, U16, U32, U64 = 2**8 - 1, 2**16 - 1, 2**32 - 1, 2**64 - 1
TERMS = 1000


class Int:
    def __init__(self, most=U64, least=0, known=None):
        self.most, self.least, self.known = most, least, known

    def check(self, value, at):
        if isinstance(value, bool) or not isinstance(value, int):
            raise WireError("WrongKind", *at)
        if not self.least <= value <= self.most:
            raise WireError("OutOfRange", *at)
        # A code of a later version is read as 0, "other".
        return str(value if self.known is None or value <= self.known else 0)


class Bytes:
    def __init__(self, least, most=None):
        self.least, self.most = least, least if most is None else most

    def check(self, value, at):
        if not isinstance(value, bytes):
            raise WireError("WrongKind", *at)
        if not self.least <= len(value) <= self.most:
            raise WireError("OutOfRange", *at)
        return value.hex()


def unfit(letter):
    """True for what does more to a line than stand in it."""
    separators = "\u2028" <= letter <= "\u202e" or "\u2066" <= letter <= "\u2069"
    return separators or unicodedata.category(letter) == "Cc"


def twice(methods):
    names = [method["name"] for method in methods]
    return len(set(names)) < len(names)


class Text:
    def __init__(self, most, line=False, name=False):
        self.most, self.line, self.name = most, line, name

    def check(self, value, at):
        if not isinstance(value, str):
            raise WireError("WrongKind", *at)
        bad = len(value.encode()) > self.most
        if self.line or self.name:
            bad |= not value
        bad |= any(unfit(letter) for letter in value)
        if self.name:
            bad |= not all(letter in "abcdefghijklmnopqrstuvwxyz0123456789-" for letter in value)
        if bad:
            raise WireError("OutOfRange", *at)
        return value


class Version(Int):
    """An item of a list is of its kind, or not."""

    def check(self, value, at):
        try:
            return super().check(value, at)
        except WireError:
            raise WireError("WrongKind", *at) from None


class List:
    def __init__(self, item, most):
        self.item, self.most = item, most

    def check(self, value, at):
        if not isinstance(value, list):
            raise WireError("WrongKind", *at)
        if len(value) > self.most:
            raise WireError("OutOfRange", *at)
        return [self.item.check(item, at) for item in value]


class Map:
    """`fields`: key, name, kind, and `True` where it may be missing, in the order of the keys.

    `late`: key and what must hold of all fields, looked at once all keys are read.
    """

    def __init__(self, *fields, late=()):
        self.fields, self.late = fields, late

    def check(self, value, at):
        if not isinstance(value, dict):
            raise WireError("WrongKind", *at)
        return self.fields_of(value, at[0])

    def fields_of(self, value, message, skip=()):
        found, known = {}, {field[0] for field in self.fields} | set(skip)
        unknown = sorted(key for key in value if key % 2 == 0 and key not in known)
        for key, name, kind, *optional in self.fields:
            if unknown and unknown[0] < key:
                raise WireError("UnknownKey", message, unknown[0])
            if key in value:
                found[name] = kind.check(value[key], (message, key))
            elif not optional:
                raise WireError("Missing", message, key)
        for key, holds in self.late:
            if not holds(found):
                raise WireError("OutOfRange", message, key)
        if unknown:
            raise WireError("UnknownKey", message, unknown[0])
        return found


class Evidence(Map):
    """A receipt and its signature, flat on the wire."""

    def check(self, value, at):
        flat = super().check(value, at)
        reading = {"media_ms": flat.pop("media_ms"), "bytes": flat.pop("bytes")}
        signature = flat.pop("signature")
        return {"receipt": {**flat, "reading": reading}, "signature": signature}


class Terms(Map):
    """Terms: the two rates are one tariff."""

    def fields_of(self, value, message, skip=()):
        flat = super().fields_of(value, message, skip)
        tariff = {name: flat.pop(name) for name in ("time", "bytes") if name in flat}
        return {**flat, "tariff": tariff}


EVIDENCE = Evidence(
    (0, "purse", Int(U32)), (2, "seq", Int()), (4, "cumulative", Int(MONEY)),
    (6, "total", Int(MONEY)), (8, "media_ms", Int()), (10, "bytes", Int()),
    (12, "signature", Bytes(64)), (14, "tips", Int(MONEY, 1), True))
RATE = Map((0, "msat", Int(MONEY)), (2, "per", Int(U32, 1)))
METHOD = Map((0, "name", Text(16, name=True)), (2, "params", Bytes(0, 1024)))
TERMS_MAP = Terms(
    (0, "title", Text(128)), (2, "time", RATE, True), (4, "bytes", RATE, True),
    (6, "tick", Int(MONEY)), (8, "preview", Int(MONEY)), (10, "window", Int(MONEY)),
    (12, "tolerance_permille", Int(U16)), (14, "tolerance_ms", Int(U32)),
    (16, "live_ms", Int(U32)), (18, "methods", List(METHOD, 8)),
    (20, "resumable_s", Int(U32)), (22, "expires", Int()), (24, "payee", Bytes(32)),
    (26, "join_fee", Int(MONEY, 1), True),
    late=((6, lambda terms: terms["tick"] != "0"),
          (12, lambda terms: int(terms["tolerance_permille"]) <= 1000),
          (18, lambda terms: terms["methods"] and not twice(terms["methods"]))))

REFUSALS, CLOSES, ROOMS = 16, 20, 6
PURSE, CODE = (2, "purse", Int(U32)), Int(U16, known=REFUSALS)
OFFER = Map((2, "offer", Bytes(32)))

MESSAGES = {
    0: ("hello", Map(
        (2, "session", Bytes(32)), (4, "versions", List(Version(U16), 8)), (6, "features", Int()),
        (8, "nonce", Bytes(32)), (10, "identity", Bytes(32)), (12, "session_key", Bytes(32)),
        (14, "root", Bytes(32), True), (16, "evidence", EVIDENCE, True),
        late=((4, lambda hello: hello["versions"]),))),
    1: ("reading", Map((2, "media_ms", Int()), (4, "bytes", Int()))),
    2: ("welcome", Map(
        (2, "session", Bytes(32)), (4, "version", Int(U16)), (6, "features", Int()),
        (8, "nonce", Bytes(32)), (10, "session_key", Bytes(32)), (12, "terms", TERMS_MAP),
        (14, "terms_signature", Bytes(64)), (16, "binding", Bytes(64)))),
    4: ("bind", Map((2, "binding", Bytes(64)))),
    6: ("ready", Map((2, "evidence", EVIDENCE, True))),
    8: ("purse", Map(
        PURSE, (4, "part", Int(U16)), (6, "of", Int(U16)), (8, "method", Int(U8)),
        (10, "bytes", Bytes(0, 16 * 1024)),
        late=((6, lambda purse: 1 <= int(purse["of"]) <= 64),
              (4, lambda purse: int(purse["part"]) < int(purse["of"]))))),
    10: ("purse_ok", Map(PURSE)),
    12: ("purse_refused", Map(PURSE, (4, "code", CODE))),
    14: ("tick", Map(
        PURSE, (4, "seq", Int()), (6, "cumulative", Int(MONEY)),
        (8, "payload", Bytes(0, 15 * 1024)), (10, "tips", Int(MONEY, 1), True), late=((4, lambda tick: tick["seq"] != "0"),))),
    16: ("ack", Map((2, "evidence", EVIDENCE), (4, "grant", Bytes(0, 64), True))),
    18: ("nack", Map(PURSE, (4, "seq", Int()), (6, "code", CODE), (8, "consumed", Int(2)))),
    20: ("pause", Map((2, "epoch", Int()), (4, "reason", Int(9, 1)))),
    22: ("resume", Map((2, "epoch", Int()))),
    24: ("close", Map((2, "code", Int(U16, known=CLOSES)))),
    26: ("closed", Map((2, "code", Int(U16, known=CLOSES)), (4, "evidence", EVIDENCE, True),
                       (5, "proof", Bytes(64), True))),
    28: ("offer_terms", Map(
        (2, "terms", TERMS_MAP), (4, "from", Int(MONEY)), (6, "signature", Bytes(64)))),
    30: ("agree", OFFER),
    32: ("decline", OFFER),
    34: ("agreed", OFFER),
    36: ("receipt_request", Map()),
    40: ("join", Map((2, "name", Text(32, line=True)), (4, "invitation", Bytes(0, 64), True))),
    42: ("joined", Map((2, "name", Text(32, line=True)))),
    44: ("room_refused", Map((2, "code", Int(U16, known=ROOMS)))),
    46: ("presence", Map((2, "epoch", Int()), (4, "viewers", Int(U32)))),
    48: ("chat", Map(
        (2, "id", Int()), (4, "sender", Text(32, line=True), True),
        (6, "text", Text(500, line=True)))),
    50: ("tip", Map(
        (2, "id", Int()), (4, "sender", Text(32, line=True)), (6, "amount", Int(MONEY, 1)))),
    52: ("leave", Map()),
}


def decode(data):
    """The message's name and fields; `None` for an odd type that is not known."""
    value = read(data)
    kind = value.get(0) if isinstance(value, dict) else None
    if isinstance(kind, bool) or not isinstance(kind, int):
        raise WireError("NoType")
    if kind not in MESSAGES:
        if kind % 2:
            return None
        raise WireError("UnknownType", kind)
    name, fields = MESSAGES[kind]
    return name, fields.fields_of(value, kind, skip=(0,))


def decode_terms(data):
    value = read(data)
    if not isinstance(value, dict):
        raise WireError("NoType")
    return TERMS_MAP.fields_of(value, TERMS)
