"""Payments that MUST be refused: that they are, and that those over something else are good signatures
over that: a digest computed here from BIP 143, 341 and 342 with that one thing changed."""

from bip340 import tagged_hash, verify
from btc_tx import (SEQUENCE, SINGLE, double, ecdsa_verify, leaf_hash, outpoint, output, script,
                    script_pubkey, sha256, signature_error)

FIELDS = {"vout", "txid", "value", "expiry", "payee", "payer", "change_script"}
REST = {"change", "version", "lock_time", "sequence", "signer", "flag", "annex", "separator", "key_path"}


def taproot(case, over, flag, version, lock_time, sequence, outputs):
    annex = bytes.fromhex(over["annex"]) if "annex" in over else None
    data = bytes([0, flag]) + version + lock_time
    spent = case["value"].to_bytes(8, "little"), script_pubkey(case)
    spent = spent[0], bytes([len(spent[1])]) + spent[1]
    if not flag & 0x80:
        for part in (outpoint(case), *spent, sequence):
            data += sha256(part)
    if flag & 3 not in (2, 3):
        data += sha256(b"".join(output(*out) for out in outputs))
    leaf = not over.get("key_path")
    data += bytes([2 * leaf + (annex is not None)])
    if flag & 0x80:
        data += outpoint(case) + spent[0] + spent[1] + sequence
    else:
        data += b"\x00" * 4
    if annex is not None:
        data += sha256(bytes([len(annex)]) + annex)
    if flag & 3 == 3:
        data += sha256(output(*outputs[0]))
    if leaf:
        data += leaf_hash(case) + b"\x00" + over.get("separator", 0xffffffff).to_bytes(4, "little")
    return tagged_hash("TapSighash", data)


def wsh(case, flag, version, lock_time, sequence, outputs):
    zero, code = b"\x00" * 32, script(case)
    alone, kind = flag & 0x80, flag & 0x1f
    data = version + (zero if alone else double(outpoint(case)))
    data += zero if alone or kind != 1 else double(sequence)
    data += outpoint(case) + bytes([len(code)]) + code + case["value"].to_bytes(8, "little") + sequence
    if kind == 1:
        data += double(b"".join(output(*out) for out in outputs))
    elif kind == 3:
        data += double(output(*outputs[0]))
    else:
        data += zero
    return double(data + lock_time + flag.to_bytes(4, "little"))


def is_over(case, paid, signature, over):
    """True where it is a good signature over the update with these things changed."""
    of = dict(case, **{key: over[key] for key in FIELDS & set(over)})
    change = over.get("change", case["value"] - paid)
    outputs = [(change, bytes.fromhex(of["change_script"]))]
    flag = over.get("flag", SINGLE)
    version = over.get("version", 3).to_bytes(4, "little")
    lock_time = over.get("lock_time", 0).to_bytes(4, "little")
    sequence = over["sequence"].to_bytes(4, "little") if "sequence" in over else SEQUENCE
    key = bytes.fromhex(over.get("signer", case["payer"]))
    rest = flag, version, lock_time, sequence, outputs
    body = signature[:-1] if flag else signature
    if flag and signature[-1] != flag:
        return False
    if case["type"] == 0:
        return verify(key[1:], taproot(of, over, *rest), body)
    return ecdsa_verify(key, wsh(of, *rest), body)


def check(report, cases, wrong):
    for number, case in enumerate(wrong):
        of, signature = cases[case["channel"]], bytes.fromhex(case["signature"])
        name = f"must fail {number}: {case['name']}"
        report.case(name, case["error"], signature_error(of, case["paid"], signature))
        if "over" in case:
            known = set(case["over"]) <= FIELDS | REST and len(case["over"]) == 1
            report.case(f"{name}: one thing changed", True, known)
            good = is_over(of, case["paid"], signature, case["over"])
            report.case(f"{name}: signed as it says", True, good)
    kinds = {"UnderReserve", "OverCapacity", "ChangeIsDust", "Malformed", "SighashType", "Signature"}
    report.case("must fail: every reason", kinds, {case["error"] for case in wrong})
