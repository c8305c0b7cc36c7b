"""Checks `vectors/cashu/funding.json`: openings, the secrets that follow from one, and what the mint signed.

Spec: cashu 3.1, 3.4.
"""

import bip340
import cashu_proofs
import cbor
from cashu_params import funding_fits
from cashu_proofs import compressed

OPENING_MAX = 262_144
KINDS = {0: (bytes, 32), 2: (int, 4), 4: (str, None), 6: (str, None), 8: (bytes, None), 10: (int, 8),
         12: (list, None), 14: (int, 8), 16: (bytes, 33), 18: (bytes, 32), 20: (bytes, None),
         22: (bytes, None)}


class Refused(Exception):
    """By the name of what is wrong."""


def _is(value, kind, size):
    if type(value) is not kind:
        return False
    if kind is int:
        return value < 1 << (8 * size)
    return size is None or len(value) == size


def read(file, data):
    try:
        value = cbor.read(data)
    except cbor.WireError:
        raise Refused("Malformed") from None
    good = len(data) <= OPENING_MAX and type(value) is dict and set(value) == set(KINDS)
    good = good and all(_is(value[key], *KINDS[key]) for key in KINDS)
    if not good or not all(_is(amount, int, 8) for amount in value[12]):
        raise Refused("Malformed")
    if (value[0].hex(), value[2]) != (file["session"], file["purse"]):
        raise Refused("WrongPurse")
    if not funding_fits(value) or len(value[4].encode()) > 256 or len(value[6].encode()) > 16:
        raise Refused("Shape")
    return value


def error_of(file, case):
    try:
        read(file, bytes.fromhex(case["hex"]))
    except Refused as refused:
        return str(refused)
    return None


def _numbered(field, value, number):
    data = value[18] + number.to_bytes(8, "big")
    return bip340.tagged_hash(f"streampay/cashu/{field}/v1", data).hex()


def secret(file, value, number):
    at = 32 * (number // len(value[12]))
    agreed = {"lock": value[20][at : at + 32].hex(), "receiver": file["receiver"],
              "locktime": value[14], "refund": value[16].hex()}
    return cashu_proofs.locked(agreed, _numbered("nonce", value, number))


def proof(file, value, number):
    piece = value[22][97 * number : 97 * number + 97]
    dleq = {"e": piece[33:65].hex(), "s": piece[65:].hex(), "r": _numbered("blinding", value, number)}
    return {"secret": secret(file, value, number), "C": piece[:33].hex(), "dleq": dleq}


def is_signed(file, value, number):
    """By the mint's key for the amount, with its DLEQ proof (NUT-12) and without (NUT-00)."""
    made, amount = proof(file, value, number), value[12][number % len(value[12])]
    [key] = [key for key in file["mint"]["keys"] if key["amount"] == amount]
    y = cashu_proofs.hash_to_curve(made["secret"].encode())
    unblinded = compressed(bip340._times(y, int(key["secret"], 16)))
    return made["C"] == unblinded and cashu_proofs.is_signed(made, key["key"])


def check_mint(report, mint):
    for key in mint["keys"]:
        report.case(f"cashu funding, the mint's key for {key['amount']}", key["key"],
                    lambda: compressed(bip340._times(bip340.G, int(key["secret"], 16))))
    keyset = {**mint, "id": mint["keyset"], "final_expiry": None}
    report.case("cashu funding, keyset", mint["keyset"], lambda: cashu_proofs.keyset_id(keyset))


def check(report, file):
    check_mint(report, file["mint"])
    for case in file["valid"]:
        name = f"cashu funding `{case['name']}`"
        report.case(name, None, lambda: error_of(file, case))
        value = read(file, bytes.fromhex(case["hex"]))
        report.case(f"{name} written", case["hex"], lambda: cbor.write(value).hex())
        said = (file["mint"]["keyset"], file["mint"]["unit"], case["steps"], case["amounts"],
                case["locktime"], case["refund"], case["salt"])
        report.case(f"{name} says", said, lambda: (value[8].hex(), value[6], value[10], value[12],
                    str(value[14]), value[16].hex(), value[18].hex()))
        proofs = value[10] * len(value[12])
        report.case(f"{name} secrets", case["secrets"],
                    lambda: [secret(file, value, number) for number in range(proofs)])
        for number in range(proofs):
            report.case(f"{name}, proof {number}", True, lambda: is_signed(file, value, number))
    for case in file["invalid"]:
        report.case(f"cashu funding `{case['name']}`", case["error"], lambda: error_of(file, case))
