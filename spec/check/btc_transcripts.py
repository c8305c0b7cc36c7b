"""Checks `transcripts/btc`: every tick's signature, every transaction, and that money is conserved.

Nothing of the implementation is used: keys come from the `secret` that a transcript begins with,
the payer's and the payee's terms from what each side is told.
"""

import json
import pathlib

import cbor
from bip340 import G, _plus, _times, tagged_hash, verify
from btc_mutual import Keys, key_sighash
from btc_tx import (DUST, Tx, channel_id, compressed, outpoint, point, script_pubkey,
                    signature_error, spends)

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "transcripts" / "btc"
OPENED, SETTLED = "accepted", ("settled", "released")


def channel_key(base, payer, session, purse):
    """Bitcoin 2.2."""
    tweak = tagged_hash("streampay/btc/payee/v1", base + payer + session + purse.to_bytes(4, "big"))
    return compressed(_plus(point(base), _times(G, int.from_bytes(tweak, "big"))))


def case_of(params, opening):
    """The channel as terms and opening say."""
    terms, said = cbor.read(params), cbor.read(opening)
    case = {
        "name": "transcript", "chain": terms[0].hex(), "type": said[4], "expiry": said[8],
        "payer": said[6].hex(), "session": said[0].hex(), "purse": said[2],
        "payee": channel_key(terms[2], said[6], said[0], said[2]).hex(),
        "txid": said[10].hex(), "vout": said[12], "value": said[14],
        "reserve": terms[6], "change_script": said[16].hex(),
    }
    return case, said[18]


def asks(steps):
    for step in steps:
        ask = step["input"].get("request", {}).get("ask")
        if ask:
            yield step, ask


def good_opening(steps):
    """Parameters and opening of the channel that is used, as this side is told or tells."""
    for at, (step, ask) in enumerate(asks(steps)):
        for kind in ("accept", "open"):
            if kind not in ask:
                continue
            params = bytes.fromhex(ask[kind]["params"])
            said = ask[kind].get("opening")
            outcomes = outcomes_after(steps, step)
            for outcome in outcomes:
                if "opened" in outcome:
                    said = outcome["opened"]["opening"]
            done = any("opened" in of or OPENED in of for of in outcomes)
            if said and done:
                return params, bytes.fromhex(said)
    return None


def outcomes_after(steps, step):
    """The outcomes from this step up to the next request."""
    found, at = [], steps.index(step)
    for number, later in enumerate(steps[at:]):
        if number and "request" in later["input"]:
            break
        found += [of["outcome"] for of in later["outputs"] if "outcome" in of]
    return found


def first_outcome(steps, step):
    found = outcomes_after(steps, step)
    return found[0] if found else {}


def check_ticks(report, name, steps, case):
    """Each payload that is paid or credited is the update; what is a `Malformed`, another type or a
    false signature is refused with the number of that reason."""
    codes = {"Malformed": None, "SighashType": None, "Signature": None}
    best, settling = 0, False
    for step, ask in asks(steps):
        outcome = first_outcome(steps, step)
        if "pay" in ask and "paid" in outcome:
            paid = int(ask["pay"]["cumulative"]) // 1000 + case["reserve"]
            payload = bytes.fromhex(outcome["paid"]["payload"])
            report.case(f"{name} pays {paid}", None, signature_error(case, paid, payload))
        settling = settling or "settle" in ask
        if "receive" not in ask:
            continue
        paid = int(ask["receive"]["cumulative"]) // 1000 + case["reserve"]
        payload = bytes.fromhex(ask["receive"]["payload"])
        error = signature_error(case, paid, payload)
        if "credited" in outcome:
            report.case(f"{name} credits {paid}", None, error)
            report.case(f"{name} credits no less", True, paid >= best)
            best = paid
        elif error in codes and paid > best and not settling and judged(ask["receive"]):
            code = outcome["failed"]["rejected"]["code"]
            codes[error] = codes[error] or code
            report.case(f"{name} refuses {error}", codes[error], code)


def judged(tick):
    """True where nothing else is wrong with it."""
    whole = int(tick["cumulative"]) % 1000 == 0 and int(tick["amount"]) > 0
    return whole and len(tick["payload"]) <= 2 * 73


def is_refund(tx):
    return tx.lock_time != b"\x00" * 4


def check_tx(report, name, tx, case):
    report.case(f"{name} one input", [outpoint(case)], [of[0] for of in tx.inputs])
    witness = tx.witnesses[0]
    if len(witness) == 1:
        good = verify(Keys(case).x, key_sighash(tx, case), witness[0])
    else:
        good = spends(tx, 0, case, [case], is_refund(tx))
    report.case(f"{name} is valid", True, good)
    least = all(value >= DUST[len(where)] for value, where in tx.outputs)
    report.case(f"{name} has no dust", True, least)
    report.case(f"{name} pays a fee", True, sum(of[0] for of in tx.outputs) < case["value"])


def txs(steps):
    for step in steps:
        for of in step["outputs"]:
            if "broadcast" in of:
                yield Tx(bytes.fromhex(of["broadcast"]))


def buried(steps):
    """The spend of the last view with one."""
    for step in reversed(steps):
        for of in step["input"].get("view", {}).get("outputs", []):
            spend = of.get("seen", {}).get("spend")
            if spend:
                return Tx(bytes.fromhex(spend["tx"]))
    return None


def check_end(report, name, role, steps, case):
    """What a side says that it got is what the chain gave it."""
    state = steps[-1]["state"]
    if not state or "settled" not in state[0]:
        return
    config = steps[0]["input"]["create"]["config"]
    own = config["payer"]["home"] if role == "payer" else config["payee"]["payout"]
    tx = buried(steps)
    got = sum(value for value, where in tx.outputs if where.hex() == own)
    report.case(f"{name} got", state[0]["settled"], str(got))
    if len(tx.witnesses[0]) != 1 and not is_refund(tx):
        change = case["value"] - int(state[0]["paid"])
        back = sum(value for value, where in tx.outputs
                   if where.hex() == case["change_script"])
        if role == "payee" or int(state[0]["paid"]):
            report.case(f"{name} gives back no less", True, back >= change)


def check(report):
    files = sorted(FOLDER.glob("*.json"))
    report.case("transcripts of bitcoin", True, len(files) >= 20)
    for path in files:
        file = json.loads(path.read_text())
        name, role, steps = file["name"], file["role"], file["steps"]
        found = good_opening(steps)
        if found is None:
            taken = [of for step in steps for of in step["outputs"] if OPENED in of.get("outcome", {})]
            report.case(f"{name} takes nothing", [], taken)
            continue
        case, said = case_of(*found)
        report.case(f"{name} channel id", channel_id(case).hex(), said.hex())
        secret = int(steps[0]["input"]["create"]["secret"], 16)
        report.case(f"{name} key", case[role], compressed(_times(G, secret)).hex())
        for step in steps:
            for of in step["input"].get("view", {}).get("outputs", []):
                if "seen" in of and of["txid"] == case["txid"]:
                    report.case(f"{name} script", script_pubkey(case).hex(), of["seen"]["script"])
        check_ticks(report, name, steps, case)
        for number, tx in enumerate(txs(steps)):
            check_tx(report, f"{name} broadcast {number}", tx, case)
        check_end(report, name, role, steps, case)
