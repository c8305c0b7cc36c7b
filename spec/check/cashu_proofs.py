"""Checks `vectors/cashu/proofs.json`: keysets (NUT-02) and what a mint signed (NUT-12)."""

import hashlib

import bip340


def point(text):
    data = bytes.fromhex(text)
    x, y = bip340._lift_x(int.from_bytes(data[1:], "big"))
    return (x, y) if data[0] == 2 else (x, bip340.P - y)


def hash_to_curve(message):
    root = hashlib.sha256(b"Secp256k1_HashToCurve_Cashu_" + message).digest()
    for counter in range(2**16):
        x = hashlib.sha256(root + counter.to_bytes(4, "little")).digest()
        lifted = bip340._lift_x(int.from_bytes(x, "big"))
        if lifted:
            return lifted


def compressed(found):
    return bytes([2 + found[1] % 2]).hex() + found[0].to_bytes(32, "big").hex()


def uncompressed(found):
    return "04" + found[0].to_bytes(32, "big").hex() + found[1].to_bytes(32, "big").hex()


def negative(found):
    return found[0], bip340.P - found[1]


def keyset_id(keyset):
    """An end of 0 is none, and a fee of 0 is left out. Source: NUT-02."""
    keys = sorted((key["amount"], key["key"]) for key in keyset["keys"])
    if keyset["id"].startswith("00"):
        data = b"".join(bytes.fromhex(key) for _, key in keys)
        return "00" + hashlib.sha256(data).hexdigest()[:14]
    text = ",".join("%d:%s" % key for key in keys) + "|unit:" + keyset["unit"]
    if keyset["input_fee_ppk"]:
        text += "|input_fee_ppk:%d" % keyset["input_fee_ppk"]
    if int(keyset["final_expiry"] or 0):
        text += "|final_expiry:" + keyset["final_expiry"]
    return "01" + hashlib.sha256(text.encode()).hexdigest()


def is_signed(proof, key):
    dleq, a = proof["dleq"], point(key)
    e, s, r = (int(dleq[name], 16) for name in ("e", "s", "r"))
    y = hash_to_curve(proof["secret"].encode())
    blinded = bip340._plus(y, bip340._times(bip340.G, r))
    signature = bip340._plus(point(proof["C"]), bip340._times(a, r))
    r1 = bip340._plus(bip340._times(bip340.G, s), negative(bip340._times(a, e)))
    r2 = bip340._plus(bip340._times(blinded, s), negative(bip340._times(signature, e)))
    text = "".join(uncompressed(found) for found in (r1, r2, a, signature))
    return hashlib.sha256(text.encode()).hexdigest() == dleq["e"]


def wrong_keyset(file, keyset):
    if keyset_id(keyset) != keyset["id"]:
        return "KeysetId"
    if keyset["unit"] != file["unit"]:
        return "Unit"
    if keyset["input_fee_ppk"] > file["max_fee_ppk"]:
        return "Fee"
    ends = int(keyset["final_expiry"] or 0)
    if ends and ends < int(file["locktime"]) + file["refund_window_s"]:
        return "FinalExpiry"
    return None


def locked(file, nonce):
    return (
        '["HTLC",{"nonce":"%s","data":"%s","tags":[["pubkeys","%s"],["locktime","%s"],'
        '["refund","%s"],["sigflag","SIG_INPUTS"]]}]'
        % (nonce, file["lock"], file["receiver"], file["locktime"], file["refund"])
    )


def wrong_proof(file, case, proof, seen):
    keyset = case["keyset"]
    if proof["id"] != keyset["id"]:
        return "Keyset"
    if proof.get("witness") is not None or proof.get("p2pk_e") is not None:
        return "Extra"
    if proof["amount"] != case["amount"]:
        return "WrongAmount"
    keys = {key["amount"]: key["key"] for key in keyset["keys"]}
    if proof["amount"] not in keys:
        return "Denomination"
    if proof["secret"] not in (locked(file, "07" * 32), locked(file, "08" * 32)):
        return "Secret"
    y = compressed(hash_to_curve(proof["secret"].encode()))
    if y in seen:
        return "Seen"
    if proof.get("dleq") is None:
        return "NoDleq"
    if not is_signed(proof, keys[proof["amount"]]):
        return "Dleq"
    seen.add(y)
    return None


def judged(file, case):
    error, seen = wrong_keyset(file, case["keyset"]), set(case["seen"])
    for proof in case["proofs"]:
        error = error or wrong_proof(file, case, proof, seen)
    return error


def is_shortest(case):
    rest, amounts = sum(case["amounts"]), []
    for part in sorted(case["denominations"], reverse=True):
        amounts += [part] * (rest // part)
        rest %= part
    return rest == 0 and amounts == case["amounts"]


def check(report, file):
    for case in file["steps"]:
        name = f"cashu step `{case['name']}`"
        report.case(name, case["refusal"], lambda: None if is_shortest(case) else "2")
    for case in file["cases"]:
        name = f"cashu proofs `{case['name']}`"
        report.case(name, case["error"], lambda: judged(file, case))
