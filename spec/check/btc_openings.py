"""Openings and terms, good ones and those that MUST be refused, judged by the chapter's text alone."""

import json
import pathlib

import cbor
from bip340 import _lift_x
from btc_tx import DUST, channel_id, key_agg
from btc_transcripts import channel_key

FILE = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "btc" / "openings.json"
# Hashes of the first blocks, as in a header: main, test (3), signet, regtest.
CHAINS = {name: bytes.fromhex(value)[::-1] for name, value in {
    "main": "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    "test": "000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
    "signet": "00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6",
    "regtest": "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
}.items()}
REGTEST = CHAINS["regtest"]
# Blocks for a funding that takes long. Bitcoin 1.2.
SLACK = 12


def is_point(key):
    if len(key) != 33 or key[0] not in (2, 3):
        return False
    try:
        return _lift_x(int.from_bytes(key[1:], "big")) is not None
    except (AssertionError, ValueError):
        return False


def whole(value, most):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def read(data, most, kinds):
    """A map of exactly these keys, else none."""
    if len(data) > most:
        return None
    try:
        found = cbor.read(data)
    except cbor.WireError:
        return None
    if not isinstance(found, dict) or set(found) != set(kinds):
        return None
    return found if all(good(found[key]) for key, good in kinds.items()) else None


def sized(size):
    return lambda value: isinstance(value, bytes) and size in (len(value), None)


def number(bits):
    return lambda value: whole(value, 2**bits - 1)


def is_rule(value):
    return (isinstance(value, dict) and set(value) == {0, 2} and whole(value[0], 2**64 - 1)
            and whole(value[2], 2**32 - 1))


TERMS = {
    0: sized(32), 2: sized(33), 4: lambda of: isinstance(of, list) and all(map(number(8), of)),
    6: number(64), 8: number(32), 10: number(32), 12: number(32),
    14: lambda of: isinstance(of, list) and all(map(is_rule, of)),
}
OPENING = {
    0: sized(32), 2: number(32), 4: number(8), 6: sized(33), 8: number(32), 10: sized(32),
    12: number(32), 14: number(64), 16: sized(None), 18: sized(32), 20: number(64),
}


def terms(data):
    """Bitcoin 1.1."""
    of = read(data, 1024, TERMS)
    if of is None or of[0] not in CHAINS.values() or not is_point(of[2]):
        return None
    rules = [(rule[0], rule[2]) for rule in of[14]]
    pairs = list(zip(rules, rules[1:]))
    good = (1 <= len(of[4]) <= 2 and set(of[4]) <= {0, 1} and of[6] <= 100_000_000 and of[8] >= 18
            and of[8] < of[10] <= of[12] <= 2016 and 1 <= len(rules) <= 8
            and all(a[0] < b[0] and a[1] <= b[1] for a, b in pairs)
            and all(depth <= 100 for _, depth in rules))
    return of if good else None


def is_standard(where):
    """P2PKH, P2SH, P2WPKH, P2WSH, P2TR."""
    return ((len(where) == 25 and where[:3] == b"\x76\xa9\x14" and where[23:] == b"\x88\xac")
            or (len(where) == 23 and where[:2] == b"\xa9\x14" and where[22:] == b"\x87")
            or (len(where) == 22 and where[:2] == b"\x00\x14")
            or (len(where) == 34 and where[:2] in (b"\x00\x20", b"\x51\x20")))


def capacity(rest, step, dust):
    """Bitcoin 4.4."""
    if rest % step == 0 and step >= dust:
        return rest
    return max(rest - dust, 0) // step * step


def opening_error(file, data):
    """Bitcoin 3.3 to 3.5, as far as the chain is not needed; none where nothing is wrong."""
    said = terms(bytes.fromhex(file["terms"]))
    of = read(data, 512, OPENING)
    if of is None:
        return "Malformed"
    if of[0].hex() != file["session"] or of[2] != file["purse"]:
        return "WrongSession"
    if of[4] not in said[4]:
        return "WrongLock"
    if not is_point(of[6]):
        return "Malformed"
    payee = channel_key(said[2], of[6], of[0], of[2])
    if payee[1:] == of[6][1:] or not 1 <= of[8] <= 499_999_999 or key_agg([payee, of[6]]) is None:
        return "WrongLock"
    if (of[14] > said[14][-1][0] or not said[6] <= of[20] <= 100_000_000
            or not is_standard(of[16]) or of[14] <= of[20]):
        return "WrongAmount"
    case = {"chain": said[0].hex(), "type": of[4], "payer": of[6].hex(), "payee": payee.hex(),
            "expiry": of[8], "txid": of[10].hex(), "vout": of[12], "value": of[14],
            "reserve": of[20], "change_script": of[16].hex()}
    if channel_id(case) != of[18]:
        return "WrongSession"
    if capacity(of[14] - of[20], file["tick"], DUST[len(of[16])]) == 0:
        return "WrongAmount"
    return None


def offer_error(file, data):
    """Bitcoin 1.2; none where a payer with these limits has the channel funded."""
    own, said = file["payer"], terms(data)
    if said is None or said[0] != REGTEST:
        return "NoCommonMethod"
    if said[6] > own["reserve_max"]:
        return "FeeTooHigh"
    tick, dust = file["tick"], own["dust"]
    most = min(own["budget"] - own["funding_fee_max"], own["value_max"], said[14][-1][0])
    extra = dust if tick < dust else 0
    count = (most - said[6] - extra) // tick
    if count <= 0:
        return "OverBudget"
    value = said[6] + extra + count * tick
    depth = next(rule[2] for rule in said[14] if value <= rule[0])
    life = min(said[12], own["life"])
    if (depth > own["depth_max"] or said[8] > own["margin_max"]
            or min(said[10] + depth + SLACK, said[12]) > life):
        return "WrongLock"
    return None


def check(report):
    file = json.loads(FILE.read_text())
    for what, judge in (("openings", opening_error), ("offers", offer_error)):
        found = {case.get("error") for case in file[what]}
        report.case(f"{what}: good ones and {len(found)} reasons", True, None in found and len(found) >= 5)
        for case in file[what]:
            error = judge(file, bytes.fromhex(case["hex"]))
            report.case(f"{what}: {case['name']}", case.get("error"), error)
