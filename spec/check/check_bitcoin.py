"""Checks the vectors of the bitcoin chapter without any code of the implementation that wrote them.

    python3 spec/check/check_bitcoin.py

Needs Python 3.8 or later and nothing else: keys, scripts, hashes and signatures are computed here
from the texts of BIP 66, 143, 173, 327, 340, 341, 342, 350 and 380. Ends with `N passed, N failed`.
"""

import json
import pathlib
import sys

import btc_must_fail
import btc_mutual
import btc_openings
import btc_transcripts
from bip340 import G, _plus, _times, sign
from btc_tx import (NONE, SEQUENCE, SINGLE, Tx, address, channel_id, compressed, descriptor, outpoint,
                    output_key, payee_tweak, point, script, script_pubkey, sighash, signature_error,
                    spends, template)

FILE = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "btc" / "channel.json"


class Report:
    passed = failed = 0

    def case(self, name, expected, found):
        if expected == found:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {name}: expected {str(expected)[:200]}, found {str(found)[:200]}")


def check_keys(report, case):
    name = case["name"]
    base, tweak = point(bytes.fromhex(case["payee_base"])), payee_tweak(case)
    report.case(f"{name} payee", case["payee"], compressed(_plus(base, _times(G, tweak))).hex())
    for side in ("payer", "payee"):
        secret = int(case[f"{side}_secret"], 16)
        report.case(f"{name} {side}'s secret", case[side], compressed(_times(G, secret)).hex())
    report.case(f"{name} script", case["script"], script(case).hex())
    if case["type"] == 0:
        report.case(f"{name} internal key", case["internal_key"], output_key(case)[0].hex())
    report.case(f"{name} script_pubkey", case["script_pubkey"], script_pubkey(case).hex())
    report.case(f"{name} address", case["address"], address(case))
    report.case(f"{name} descriptor", case["descriptor"], descriptor(case))
    report.case(f"{name} channel id", case["channel_id"], channel_id(case).hex())


def check_updates(report, case):
    for update in case["updates"]:
        name = f"{case['name']} paid {update['paid']}"
        change = update["change"]
        report.case(f"{name} change", case["value"] - update["paid"], change or 0)
        flag = SINGLE if change else NONE
        version, lock_time, outputs = template(case, change)
        digest = sighash(case, flag, version, lock_time, outputs)
        report.case(f"{name} sighash", update["sighash"], digest.hex())
        signature = bytes.fromhex(update["signature"])
        report.case(f"{name} signature", None, signature_error(case, update["paid"], signature))
        if case["type"] == 0:
            made = sign(bytes.fromhex(case["payer_secret"]), digest, b"\x00" * 32)
            report.case(f"{name} signed", update["signature"], (made + bytes([flag])).hex())


def check_tx(report, name, case, cases, refund):
    tx = Tx(bytes.fromhex(case["tx"]))
    known = {outpoint(other): other for other in cases}
    spent = sum(known[point]["value"] for point, _, _ in tx.inputs)
    report.case(f"{name} fee", case["fee"], spent - sum(value for value, _ in tx.outputs))
    report.case(f"{name} vsize", case["vsize"], (tx.weight + 3) // 4)
    report.case(f"{name} version", 2 if refund else 3, int.from_bytes(tx.version, "little"))
    least = case["sat_vb"] * case["vsize"]
    report.case(f"{name} feerate", True, least <= case["fee"] <= least + 2 * case["sat_vb"])
    for index, (point, _, sequence) in enumerate(tx.inputs):
        report.case(f"{name} sequence", SEQUENCE, sequence)
        report.case(f"{name} input {index}", True, spends(tx, index, known[point], cases, refund))
    return tx


def check_batch(report, batch, cases):
    tx = check_tx(report, "batch", batch, cases, False)
    paid = {outpoint(cases[index]): (cases[index], paid)
            for index, paid in zip(batch["channels"], batch["paid"])}
    for index, (point, _, _) in enumerate(tx.inputs):
        case, amount = paid[point]
        change = case["value"] - amount
        if change:
            expected = (change, bytes.fromhex(case["change_script"]))
            report.case(f"batch change {index}", expected, tx.outputs[index])


def main():
    report, file = Report(), json.loads(FILE.read_text())
    cases = file["channels"]
    for case in cases:
        check_keys(report, case)
        check_updates(report, case)
        for close in case["closes"]:
            check_tx(report, f"{case['name']} close", close, cases, False)
        for refund in case["refunds"]:
            check_tx(report, f"{case['name']} refund", refund, cases, True)
    check_batch(report, file["batch"], cases)
    btc_must_fail.check(report, cases, file["must_fail"])
    btc_openings.check(report)
    btc_mutual.check(report, cases)
    btc_transcripts.check(report)
    print(f"{report.passed} passed, {report.failed} failed")
    sys.exit(1 if report.failed or not report.passed else 0)


if __name__ == "__main__":
    main()
