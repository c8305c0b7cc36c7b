"""Holds values to the CDDL of this specification: as much of RFC 8610 as it uses.

Rules of maps with int keys, arrays, `/`, ranges, `.size`, `.ge`, text in quotes, and the names `uint`,
`bytes`, `text` and `bool`. What else a file has is an error here, not something that passes.
"""

import re

TOKEN = re.compile(r'\s+|;[^\n]*|("[^"]*"|\.\.|\.[a-z]+|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[=:,?/(){}\[\]*+])')


def tokens(text):
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise ValueError("not known: %r" % text[at:at + 20])
        at = match.end()
        if match.group(1) is not None:
            found.append(match.group(1))
    return found


class Parser:
    """Rules by name; a type is a function that says whether a value is of it."""

    def __init__(self, text):
        self.tokens, self.at, self.rules = tokens(text), 0, {}
        # The required keys of each map, and where they are.
        self.keys = {}
        while self.at < len(self.tokens):
            name = self.take()
            self.need("=")
            self.rules[name], self.rule = None, name
            self.rules[name] = self.type()

    def peek(self, ahead=0):
        at = self.at + ahead
        return self.tokens[at] if at < len(self.tokens) else None

    def take(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def need(self, token):
        found = self.take()
        if found != token:
            raise ValueError("%r in the place of %r" % (found, token))

    def type(self):
        choices = [self.limited()]
        while self.peek() == "/":
            self.take()
            choices.append(self.limited())
        return lambda value: any(choice(value) for choice in choices)

    def limited(self):
        base = self.atom()
        limit = {".size": lambda value, most: len(value) == most, ".ge": lambda value, least: value >= least}
        if self.peek() not in limit:
            return base
        holds, number = limit[self.take()], int(self.take())
        return lambda value: base(value) and holds(value, number)

    def atom(self):
        token = self.take()
        if token == "(":
            inner = self.type()
            self.need(")")
            return inner
        if token == "{":
            return self.map()
        if token == "[":
            return self.array()
        if token[0] == '"':
            return lambda value: value == token[1:-1]
        if token.isdigit():
            low = high = int(token)
            if self.peek() == "..":
                self.take()
                high = int(self.take())
            return lambda value: type(value) is int and low <= value <= high
        if token in BUILT_IN:
            return BUILT_IN[token]
        return lambda value: self.rules[token](value)

    def map(self):
        fields, required = {}, set()
        while self.peek() != "}":
            optional = self.peek() == "?"
            if optional:
                self.take()
            key = int(self.take())
            self.need(":")
            fields[key] = self.type()
            if not optional:
                required.add(key)
            if self.peek() == ",":
                self.take()
        self.take()
        self.keys[self.rule] = required

        def holds(value):
            return (
                isinstance(value, dict) and required <= set(value) <= set(fields)
                and all(fields[key](value[key]) for key in value)
            )
        return holds

    def array(self):
        entries = []
        while self.peek() != "]":
            least, most = 1, 1
            if self.peek() == "*" or self.peek(1) == "*":
                least = int(self.take()) if self.peek() != "*" else 0
                self.take()
                most = int(self.take()) if self.peek().isdigit() else None
            entries.append((least, most, self.type()))
            if self.peek() == ",":
                self.take()
        self.take()
        if len(entries) == 1:
            least, most, each = entries[0]
            return lambda value: (
                isinstance(value, list) and least <= len(value) and (most is None or len(value) <= most)
                and all(each(item) for item in value)
            )
        if any(bounds != (1, 1) for bounds in ((least, most) for least, most, _ in entries)):
            raise ValueError("an array of several kinds, not each once")
        kinds = [kind for _, _, kind in entries]
        return lambda value: (
            isinstance(value, list) and len(value) == len(kinds)
            and all(kind(item) for kind, item in zip(kinds, value))
        )

    def holds(self, name, value):
        return bool(self.rules[name](value))


BUILT_IN = {
    "uint": lambda value: type(value) is int and 0 <= value < 2**64,
    "bytes": lambda value: isinstance(value, bytes),
    "text": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
}
