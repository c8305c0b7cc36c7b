"""Checks `vectors/btc/mutual.json`: both messages, and whole closes with BIP 327 arithmetic."""

import json
import pathlib

import cbor
from bip340 import G, N, P, _lift_x, _plus, _times, tagged_hash, verify
from btc_tx import DUST, Tx, compressed, key_agg, leaf_hash, outpoint, point, script_pubkey, sha256

FILE = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "btc" / "mutual.json"
MAX = 256
PROPOSAL = {0: int, 2: bytes, 4: int, 6: 66}
PART = {0: 66, 2: 32}
NAMES = {0: "paid", 2: "payout", 4: "fee", 6: "nonce"}


def message(raw, kinds):
    """The fields of one of the two messages; none where it is none."""
    if len(raw) > MAX:
        return None
    try:
        value = cbor.read(raw)
    except cbor.WireError:
        return None
    if not isinstance(value, dict) or list(value) != list(kinds):
        return None
    for key, kind in kinds.items():
        found = value[key]
        if kind is int:
            good = isinstance(found, int)
        else:
            good = isinstance(found, bytes) and (kind is bytes or len(found) == kind)
        if not good:
            return None
    return value


def negate(where):
    return None if where is None else (where[0], P - where[1])


def plus_times(a, b, factor):
    return _plus(a, _times(b, factor)) if factor % N else a


def nonce_points(nonce):
    return [point(nonce[at:at + 33]) for at in (0, 33)]


class Keys:
    """KeyAgg and its x-only tweak by `TapTweak`."""

    def __init__(self, case):
        self.keys = sorted(bytes.fromhex(case[side]) for side in ("payer", "payee"))
        inner = key_agg(self.keys)
        inside = inner[0].to_bytes(32, "big")
        self.tweak = int.from_bytes(tagged_hash("TapTweak", inside + leaf_hash(case)), "big")
        even = inner[1] % 2 == 0
        self.sign = 1 if even else N - 1
        self.outer = _plus(inner if even else negate(inner), _times(G, self.tweak))
        self.x = self.outer[0].to_bytes(32, "big")

    def factor(self, key):
        if key == self.keys[1]:
            return 1
        whole = tagged_hash("KeyAgg list", b"".join(self.keys))
        return int.from_bytes(tagged_hash("KeyAgg coefficient", whole + key), "big") % N


def partial_is_good(keys, case, close, digest):
    """BIP 327, PartialSigVerify of the payer's."""
    own = nonce_points(bytes.fromhex(close["payer_nonce"]))
    other = nonce_points(bytes.fromhex(close["payee_nonce"]))
    both = [_plus(a, b) for a, b in zip(own, other)]
    coefficient = tagged_hash("MuSig/noncecoef",
                              b"".join(compressed(of) for of in both) + keys.x + digest)
    b = int.from_bytes(coefficient, "big") % N
    whole = plus_times(both[0], both[1], b)
    e = tagged_hash("BIP0340/challenge", whole[0].to_bytes(32, "big") + keys.x + digest)
    e = int.from_bytes(e, "big") % N
    part = plus_times(own[0], own[1], b)
    if whole[1] % 2:
        part = negate(part)
    payer = bytes.fromhex(case["payer"])
    side = keys.sign if keys.outer[1] % 2 == 0 else N - keys.sign
    found = _times(G, int(close["partial"], 16))
    return found == plus_times(part, point(payer), e * keys.factor(payer) * side % N)


def outputs(case, close):
    """Bitcoin 5.6."""
    paid, fee = int(close["paid"]), int(close["fee"])
    change_script = bytes.fromhex(case["change_script"])
    back = case["value"] - paid + max(case["reserve"] - fee, 0)
    due = paid - case["reserve"] - max(fee - case["reserve"], 0)
    change = [(back, change_script)] if back >= DUST[len(change_script)] else []
    return change + [(due, bytes.fromhex(close["payout"]))]


def key_sighash(tx, case):
    """BIP 341, by the key path."""
    where = script_pubkey(case)
    data = bytes([0, 0]) + tx.version + tx.lock_time
    data += sha256(outpoint(case)) + sha256(case["value"].to_bytes(8, "little"))
    data += sha256(bytes([len(where)]) + where) + sha256(tx.inputs[0][2])
    data += sha256(b"".join(value.to_bytes(8, "little") + bytes([len(spk)]) + spk
                            for value, spk in tx.outputs))
    return tagged_hash("TapSighash", data + b"\x00" + b"\x00" * 4)


def nonce(keys, seed, key, digest):
    """BIP 327, NonceGen without the secret key. The entropy's labels are this implementation's."""
    def derive(label):
        return tagged_hash("streampay/entropy/v1", seed + sha256(label.encode()))

    rest = derive("streampay/btc/mutual/nonce") + bytes([33]) + key + bytes([32]) + keys.x
    rest += b"\x01" + (32).to_bytes(8, "big") + digest
    extra = derive("streampay/btc/mutual/extra")
    rest += len(extra).to_bytes(4, "big") + extra
    secrets = [int.from_bytes(tagged_hash("MuSig/nonce", rest + bytes([at])), "big") % N
               for at in range(2)]
    return b"".join(compressed(_times(G, secret)) for secret in secrets).hex()


def check_close(report, number, close, case):
    name = f"mutual close {number}"
    keys, tx = Keys(case), Tx(bytes.fromhex(close["tx"]))
    report.case(f"{name} input", [(outpoint(case), b"", b"\xfd\xff\xff\xff")], tx.inputs)
    report.case(f"{name} outputs", outputs(case, close), tx.outputs)
    report.case(f"{name} version", (3, 0),
                tuple(int.from_bytes(of, "little") for of in (tx.version, tx.lock_time)))
    digest = key_sighash(tx, case)
    report.case(f"{name} sighash", close["sighash"], digest.hex())
    for side in ("payer", "payee"):
        made = nonce(keys, bytes.fromhex(close[f"{side}_entropy"]), bytes.fromhex(case[side]),
                     digest)
        report.case(f"{name} {side}'s nonce", close[f"{side}_nonce"], made)
    report.case(f"{name} partial", True, partial_is_good(keys, case, close, digest))
    witness = tx.witnesses[0]
    report.case(f"{name} witness", [64], [len(of) for of in witness])
    report.case(f"{name} signature", True, verify(keys.x, digest, witness[0]))
    report.case(f"{name} size", True, (tx.weight + 3) // 4 <= 154)


def check(report, cases):
    file = json.loads(FILE.read_text())
    for what, kinds in (("proposal", PROPOSAL), ("part", PART)):
        names = NAMES if what == "proposal" else {0: "nonce", 2: "partial"}
        for case in file[what]["valid"]:
            found = message(bytes.fromhex(case["hex"]), kinds)
            found = found and {names[key]: str(value) if isinstance(value, int) else value.hex()
                               for key, value in found.items()}
            report.case(f"{what}", case["fields"], found)
        for case in file[what]["invalid"]:
            found = message(bytes.fromhex(case["hex"]), kinds)
            report.case(f"{what}: {case['error']}", None, found)
    for case in file["proposal"]["unfair"]:
        found = message(bytes.fromhex(case["hex"]), PROPOSAL)
        report.case(f"unfair proposal decodes: {case['error']}", True, found is not None)
    for number, close in enumerate(file["closes"]):
        check_close(report, number, close, cases[close["channel"]])
