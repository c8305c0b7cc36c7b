"""Checks `vectors/cashu` with hashes and curve arithmetic alone."""

import hashlib
import json
import pathlib

import bip340
import cashu_funding
import cashu_locks
import cashu_params
import cashu_proofs
from cashu_proofs import compressed, point

STEP = "streampay/cashu-chain/step/v1"


def load(name):
    folder = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "cashu"
    return json.loads((folder / name).read_text(encoding="utf-8"))


def hash_to_curve(message):
    return compressed(cashu_proofs.hash_to_curve(message))


def tweak(case):
    data = hashlib.sha256(bytes.fromhex(case["root"])).digest()
    for name in ("payee_session_key", "payer_session_key", "session"):
        data += bytes.fromhex(case[name])
    data += int(case["purse"]).to_bytes(8, "big")
    return int.from_bytes(bip340.tagged_hash("streampay/cashu/purse-key/v1", data), "big")


def receiver(case):
    return compressed(bip340._plus(point(case["root"]), bip340._times(bip340.G, tweak(case))))


def purse_secret(case):
    secret = (int(case["root_secret"], 16) + tweak(case)) % bip340.N
    return secret.to_bytes(32, "big").hex()


def walk(preimage, steps):
    for _ in range(steps):
        preimage = bip340.tagged_hash(STEP, preimage)
    return preimage


def secret(case):
    keys = '["pubkeys","%s"],' % case["receiver"] if case["kind"] == "HTLC" else ""
    data = case["lock"] if case["kind"] == "HTLC" else case["receiver"]
    return (
        '["%s",{"nonce":"%s","data":"%s","tags":[%s["locktime","%s"],["refund","%s"],'
        '["sigflag","SIG_INPUTS"]]}]'
        % (case["kind"], case["nonce"], data, keys, case["locktime"], case["refund"])
    )


def numbered(tag, case):
    data = bytes.fromhex(case["salt"]) + int(case["number"]).to_bytes(8, "big")
    return bip340.tagged_hash(tag, data).hex()


def credits(file, case):
    payload = bytes.fromhex(case["payload"])
    if len(payload) != 32:
        return False
    for step in range(case["step"], case["credited"], -1):
        if hashlib.sha256(payload).hexdigest() != file["locks"][step - 1]:
            return False
        payload = bip340.tagged_hash(STEP, payload)
    return case["known"] in (None, payload.hex())


def released(file, case):
    signatures = bytes.fromhex(case["hex"])[-64 * len(file["secrets"]):]
    key = bytes.fromhex(file["receiver"])[1:]
    good = all(
        bip340.verify(
            key, hashlib.sha256(text.encode()).digest(), signatures[64 * at : 64 * at + 64]
        )
        for at, text in enumerate(file["secrets"])
    )
    return good and case["from"] <= case["revealed"] + 1


def check(report):
    for case in load("keys.json")["cases"]:
        report.case(f"cashu receiver `{case['name']}`", case["receiver"], lambda: receiver(case))
        report.case(f"cashu secret `{case['name']}`", case["secret"], lambda: purse_secret(case))
    for case in load("chain.json")["cases"]:
        for shown in case["shown"]:
            name = f"cashu chain `{case['name']}` step {shown['step']}"
            found = walk(bytes.fromhex(case["top"]), case["steps"] - shown["step"])
            report.case(name, shown["preimage"], found.hex)
            report.case(f"{name} lock", shown["lock"], hashlib.sha256(found).hexdigest)
    for case in load("secrets.json")["cases"]:
        name = f"cashu proof `{case['name']}`"
        report.case(f"{name} secret", case["secret"], lambda: secret(case))
        report.case(f"{name} y", case["y"], lambda: hash_to_curve(case["secret"].encode()))
        for field in ("nonce", "blinding"):
            tag = f"streampay/cashu/{field}/v1"
            report.case(f"{name} {field}", case[field], lambda: numbered(tag, case))
    steps = load("steps.json")
    for case in steps["cases"]:
        report.case(f"cashu step `{case['name']}`", case["credits"], lambda: credits(steps, case))
    release = load("release.json")
    for case in release["cases"]:
        name = f"cashu release `{case['name']}`"
        report.case(name, case["valid"], lambda: released(release, case))
    cashu_funding.check(report, load("funding.json"))
    cashu_locks.check(report, load("locks.json"))
    cashu_proofs.check(report, load("proofs.json"))
    cashu_params.check(report, load("params.json"))
