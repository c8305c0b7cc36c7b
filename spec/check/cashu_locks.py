"""Checks `vectors/cashu/locks.json`: how a secret that others wrote may be spelt. Spec: cashu 3.4, 3.5."""

import json

SECRET_MAX, NONCE_MAX = 1024, 128
# Those of 3.4, and those that say how many signatures are asked for, of one value.
SINGLE = ("locktime", "sigflag", "n_sigs", "n_sigs_refund")
KEYS = ("pubkeys", "refund")


class Refused(Exception):
    """By the name of what is wrong."""


def _need(good, name):
    if not good:
        raise Refused(name)


def _once(pairs):
    _need(len({key for key, _ in pairs}) == len(pairs), "Secret")
    return dict(pairs)


def read(text):
    """Kind, data, and tags with their values."""
    _need(len(text.encode()) <= SECRET_MAX, "Secret")
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except ValueError:
        raise Refused("Secret") from None
    _need(type(value) is list and len(value) == 2, "Secret")
    kind, body = value
    _need(type(kind) is str and type(body) is dict, "Secret")
    _need(set(body) == {"nonce", "data", "tags"}, "Secret")
    _need(type(body["nonce"]) is str and type(body["data"]) is str, "Secret")
    tags = body["tags"]
    _need(type(tags) is list and all(type(tag) is list for tag in tags), "Secret")
    _need(all(type(part) is str for tag in tags for part in tag), "Secret")
    _need(0 < len(body["nonce"].encode()) <= NONCE_MAX, "Secret")
    named = {}
    for tag in tags:
        _need(tag and tag[0] in SINGLE + KEYS, "UnknownTag")
        _need(tag[0] in KEYS or len(tag) == 2, "UnknownTag")
        _need(tag[0] not in named, "DuplicateTag")
        named[tag[0]] = tag[1:]
    return kind, body["data"], named


def judge(file, kind, text):
    """That `text` is the lock of `kind` that was agreed, and nothing more."""
    found, data, tags = read(text)
    htlc = kind == "HTLC"
    _need(found == kind, "Kind")
    _need(data == (file["lock"] if htlc else file["receiver"]), "Data")
    _need(tags.get("pubkeys") == ([file["receiver"]] if htlc else None), "Keys")
    _need("n_sigs" not in tags and "n_sigs_refund" not in tags, "Signatures")
    _need(tags.get("sigflag") == ["SIG_INPUTS"], "Flag")
    _need(tags.get("locktime") == [file["locktime"]], "Locktime")
    _need(tags.get("refund") == [file["refund"]], "Refund")


def error_of(file, case):
    try:
        judge(file, case["kind"], case["secret"])
    except Refused as refused:
        return str(refused)
    return None


def check(report, file):
    for case in file["cases"]:
        report.case(f"cashu lock `{case['name']}`", case["error"], lambda: error_of(file, case))
