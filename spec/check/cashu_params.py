"""Checks `vectors/cashu/params.json`: mints with price and limit, and openings against them.

Spec: cashu 1.1, 1.2, 2.1, 2.2, 3.1, 3.5.
"""

import ipaddress
import re

import bip340
import cbor

PARAMS_MAX = 1024
FIELDS = {"session": 0, "purse": 2, "mint": 4, "unit": 6}


class Refused(Exception):
    """By the name of what is wrong."""


def _need(good, name):
    if not good:
        raise Refused(name)


def _is(value, kind, size=None):
    return type(value) is kind and (size is None or len(value) == size)


def is_point(data):
    if len(data) != 33 or data[0] not in (2, 3):
        return False
    return bip340._lift_x(int.from_bytes(data[1:], "big")) is not None


def check_url(url):
    _need(len(url) <= 256 and all("!" <= letter <= "~" for letter in url), "Url")
    found = re.fullmatch(r"(https?)://(\[[0-9a-fA-F:.]+\]|[^/:?#@\[\]]+)(:[0-9]+)?(/[^?#@]*)?", url)
    _need(found, "Url")
    scheme, host = found.group(1), found.group(2)
    if scheme == "http":
        bare = host.strip("[]")
        try:
            loopback = ipaddress.ip_address(bare).is_loopback
        except ValueError:
            loopback = bare == "localhost"
        _need(loopback, "NotHttps")
    _need(host == host.lower() and not url.endswith("/"), "Url")


def check_mint(mint):
    check_url(mint[0])
    _need(mint[1] == "sat", "Unit")
    price = mint.get(2, 1000)
    _need(1 <= price <= 10_000 and mint.get(2) != 1000 and mint.get(3) != 0, "Price")


def decode(data, locked):
    try:
        value = cbor.read(data)
    except cbor.WireError:
        raise Refused("Malformed") from None
    keys = {0, 1, 2, 3, 4} if locked else {0}
    _need(len(data) <= PARAMS_MAX and _is(value, dict) and set(value) == keys, "Malformed")
    _need(_is(value[0], list), "Malformed")
    for mint in value[0]:
        kinds = {0: str, 1: str, 2: int, 3: int}
        _need(_is(mint, dict) and {0, 1} <= set(mint) <= set(kinds), "Malformed")
        _need(all(_is(mint[key], kinds[key]) for key in mint), "Malformed")
    if locked:
        _need(_is(value[1], bytes, 33) and all(_is(value[key], int) for key in (2, 3, 4)), "Malformed")
    _need(1 <= len(value[0]) <= 8, "MintCount")
    for mint in value[0]:
        check_mint(mint)
    named = {(mint[0], mint[1]) for mint in value[0]}
    _need(len(named) == len(value[0]), "Twice")
    if locked:
        _need(is_point(value[1]), "Malformed")
        _need(2 <= value[2] <= 2_592_000 and value[3] < value[2], "Lock")
    return value


def net_of(mint, tick):
    return -(-tick * mint.get(2, 1000) // 1000)


def ticks_max(mint, tick):
    return mint.get(3, 2**64 - 1) // net_of(mint, tick)


def spelt(mint):
    said = {"url": mint[0], "unit": mint[1]}
    if 2 in mint:
        said["price"] = str(mint[2])
    if 3 in mint:
        said["most"] = str(mint[3])
    return said


def ticks(mint, cases):
    return [
        {"tick": case["tick"], "net": str(net_of(mint, int(case["tick"]))),
         "ticks_max": str(ticks_max(mint, int(case["tick"])))}
        for case in cases
    ]


def error_of(case):
    try:
        decode(bytes.fromhex(case["hex"]), case["params"] == "locked")
    except Refused as refused:
        return str(refused)
    return None


def read_opening(data, most):
    try:
        value = cbor.read(data)
    except cbor.WireError:
        raise Refused(1) from None
    _need(len(data) <= most and _is(value, dict), 1)
    return value


def funding_fits(value):
    steps, amounts = value[10], value[12]
    proofs = steps * len(amounts)
    chain = len(value[20]) == 32 * steps and len(value[22]) == 97 * proofs
    single = not value[20] and not value[22]
    return (
        1 <= steps <= 1024 and 1 <= len(amounts) <= 24 and 0 not in amounts
        and amounts == sorted(amounts, reverse=True) and proofs <= 768
        and sum(amounts) < 2**64 and (chain or single)
    )


def is_keyset(data):
    return (len(data), data[:1]) in ((8, b"\x00"), (33, b"\x01"))


def refusal(file, case):
    """The code of the first refusal that needs no mint."""
    chain = case["method"] == "cashu-chain"
    params = decode(bytes.fromhex(case["params"]), chain)
    tick = -(-int(case["tick"]) // 1000)
    value = read_opening(bytes.fromhex(case["opening"]), 262_144 if chain else 1024)
    _need((value[0].hex(), value[2]) == (file["session"], file["purse"]), 6)
    if chain:
        _need(funding_fits(value), 1)
        _need(is_point(value[16]) and is_keyset(value[8]), 1)
    else:
        _need(1 <= value[8] <= 64, 1)
    there = [mint for mint in params[0] if mint[0] == value[4]]
    _need(there, 3)
    there = [mint for mint in there if mint[1] == value[6]]
    _need(there, 4)
    count = value[8]
    if chain:
        count = value[10]
        _need(value[20], 7)
        _need(sum(value[12]) == net_of(there[0], tick), 2)
    _need(count <= ticks_max(there[0], tick), 2)


def code_of(file, case):
    try:
        refusal(file, case)
    except Refused as refused:
        return str(refused)
    return None


def check(report, file):
    for case in file["valid"]:
        name, locked = f"cashu params `{case['name']}`", case["params"] == "locked"
        value = decode(bytes.fromhex(case["hex"]), locked)
        report.case(name, case["mints"], lambda: [spelt(mint) for mint in value[0]])
        report.case(f"{name} written", case["hex"], lambda: cbor.write(value).hex())
        report.case(f"{name} ticks", case["ticks"],
                    lambda: [ticks(mint, of) for mint, of in zip(value[0], case["ticks"])])
        if locked:
            for key, field in ((2, "lock"), (3, "margin"), (4, "max_fee")):
                report.case(f"{name} {field}", case[field], lambda: str(value[key]))
            report.case(f"{name} root", case["root"], value[1].hex)
    for case in file["invalid"]:
        report.case(f"cashu params `{case['name']}`", case["error"], lambda: error_of(case))
    for case in file["openings"]:
        report.case(f"cashu opening `{case['name']}`", case["refusal"],
                    lambda: code_of(file, case))
