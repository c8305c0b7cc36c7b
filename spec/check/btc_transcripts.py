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
                    signature_error, spends, spends_coin, spent_outputs)

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
        "reserve": said[20], "change_script": said[16].hex(),
    }
    return case, said[18]


def asks(steps):
    for step in steps:
        ask = step["input"].get("request", {}).get("ask")
        if ask:
            yield step, ask


def good_openings(steps):
    """Parameters and opening of the channels that are used, by purse, as this side is told or tells."""
    found = {}
    for step, ask in asks(steps):
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
                found.setdefault(purse_of(step), (params, bytes.fromhex(said)))
    return found


def purse_of(step):
    return int(step["input"]["request"]["purse"])


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


def check_ticks(report, name, steps, purse, case):
    """Each payload that is paid or credited is the update; what is a `Malformed`, another type, a false
    signature or leaves dust is refused with the number of that reason."""
    codes = {"Malformed": None, "SighashType": None, "Signature": None, "ChangeIsDust": None}
    best, settling = 0, False
    for step, ask in asks(steps):
        if purse_of(step) != purse:
            continue
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


def coins_of(steps, cases):
    """Values and scripts of what was looked at beside channels: the fee wallet's."""
    channels, coins = {outpoint(case) for case in cases}, {}
    for step in steps:
        for of in step["input"].get("view", {}).get("outputs", []):
            place = bytes.fromhex(of["txid"]) + int(of["vout"]).to_bytes(4, "little")
            if "seen" in of and place not in channels:
                coins[place] = int(of["seen"]["value"]), bytes.fromhex(of["seen"]["script"])
    return coins


def strays_of(steps, cases):
    """What was paid to channels' addresses besides: as channels of their own, which only come home."""
    for step in steps:
        besides = step["input"].get("besides", {})
        for of in besides.get("outputs", []):
            case = cases[int(besides["purse"])]
            yield {**case, "txid": of["txid"], "vout": int(of["vout"]), "value": int(of["value"])}


def check_tx(report, name, tx, cases, coins):
    known, places = {outpoint(case): case for case in cases}, [of[0] for of in tx.inputs]
    report.case(f"{name} inputs", True, set(places) <= set(known) | set(coins))
    report.case(f"{name} spends a channel", True, places[0] in known)
    spent = spent_outputs(tx, cases, coins)
    for index, place in enumerate(places):
        witness = tx.witnesses[index]
        if place in coins:
            good = spends_coin(tx, index, spent)
        elif len(witness) == 1:
            good = verify(Keys(known[place]).x, key_sighash(tx, known[place]), witness[0])
        else:
            good = spends(tx, index, known[place], cases, is_refund(tx), coins)
        report.case(f"{name} input {index} is valid", True, good)
    least = all(value >= DUST[len(where)] for value, where in tx.outputs)
    report.case(f"{name} has no dust", True, least)
    fee = sum(of[1] for of in spent) - sum(of[0] for of in tx.outputs)
    report.case(f"{name} pays a fee", True, fee > 0)


def parents(steps):
    """The unconfirmed fundings that views had."""
    return {of["seen"]["parent"]["tx"] for step in steps
            for of in step["input"].get("view", {}).get("outputs", []) if "parent" in of.get("seen", {})}


def txs(steps):
    """What is broadcast but for fundings, which are told to nodes that forgot them."""
    for step in steps:
        for of in step["outputs"]:
            if "broadcast" in of and of["broadcast"] not in parents(steps):
                yield Tx(bytes.fromhex(of["broadcast"]))


def check_packages(report, name, steps):
    """The parent was seen before, and the close spends it."""
    seen = parents(steps)
    for step in steps:
        for of in step["outputs"]:
            if "package" in of:
                parent, close = of["package"]
                report.case(f"{name} keeps the parent", True, parent in seen)
                yield Tx(bytes.fromhex(close))


def buried(steps, cases):
    """The spends of the last views with them, each once."""
    channels, found = {outpoint(case) for case in cases}, {}
    for step in steps:
        for of in step["input"].get("view", {}).get("outputs", []):
            spend = of.get("seen", {}).get("spend")
            place = bytes.fromhex(of["txid"]) + int(of["vout"]).to_bytes(4, "little")
            if spend and place in channels:
                found[place] = spend["tx"]
    return {place: Tx(bytes.fromhex(raw)) for place, raw in found.items()}, set(found.values())


def check_end(report, name, role, steps, cases, coins):
    """What a side says that it got is what the chain gave it."""
    state = steps[-1]["state"]
    if not state or any("settled" not in of for of in state):
        return
    config = steps[0]["input"]["create"]["config"]
    own = config["payer"]["home"] if role == "payer" else config["payee"]["payout"]
    spends_of, all_txs = buried(steps, cases.values())
    all_txs = [Tx(bytes.fromhex(raw)) for raw in all_txs]
    got = sum(value for tx in all_txs for value, where in tx.outputs if where.hex() == own)
    got -= sum(coins[place][0] for tx in all_txs for place, _, _ in tx.inputs if place in coins)
    report.case(f"{name} got", sum(int(of["settled"]) for of in state), got)
    for of in state:
        case, paid = cases[int(of["purse"])], int(of["paid"])
        tx = spends_of[outpoint(case)]
        if len(tx.witnesses[0]) == 1 or is_refund(tx) or paid == case["value"]:
            continue
        index = [place for place, _, _ in tx.inputs].index(outpoint(case))
        change = case["value"] - paid, bytes.fromhex(case["change_script"])
        if role == "payee" or paid:
            report.case(f"{name} gives back no less", True,
                        tx.outputs[index][1] == change[1] and tx.outputs[index][0] >= change[0])


def check_tower(report, name, steps):
    """Nothing before the margin; then the close that pays enough, else the dearest; each more than the
    last. Bitcoin 5.4, with the closes as they were given."""
    entry = next(step["input"]["entry"] for step in steps if "entry" in step["input"])
    closes, last, sent = [(int(of["rate"]), of["tx"]) for of in entry["closes"]], -1, 0
    for step in steps:
        view = step["input"].get("view")
        if view is None:
            continue
        left = int(entry["expiry"]) - int(view["tip"])
        rates = sorted((int(blocks), int(rate)) for blocks, rate in view["rates"])
        within = [rate for blocks, rate in rates if blocks <= max(left // 2, 1)]
        wanted = max(within[-1] if within else rates[0][1], int(view["floor"]))
        may = closes if left <= 6 else closes[:int(entry["early"])]
        best = next((of for of in may if of[0] >= wanted), may[-1])
        spend = (view["outputs"] or [{}])[0].get("seen", {}).get("spend")
        waits = spend is not None and "height" not in spend
        due = left <= int(entry["margin"]) and spend is None or waits and best[0] > last
        expected = [best[1]] if due and view["outputs"] else []
        report.case(f"{name} at {left}", expected, [of["broadcast"] for of in step["outputs"]])
        last, sent = (best[0], sent + 1) if expected else (last, sent)
    report.case(f"{name} closed", True, sent >= 2)
    report.case(f"{name} lets it go", "0", steps[-1]["state"])


def check(report):
    files = sorted(FOLDER.glob("*.json"))
    report.case("transcripts of bitcoin", True, len(files) >= 34)
    for path in files:
        file = json.loads(path.read_text())
        name, role, steps = file["name"], file["role"], file["steps"]
        if role == "tower":
            check_tower(report, name, steps)
            continue
        found = good_openings(steps)
        if not found:
            taken = [of for step in steps for of in step["outputs"] if OPENED in of.get("outcome", {})]
            report.case(f"{name} takes nothing", [], taken)
            continue
        cases = {}
        for purse, (params, opening) in found.items():
            case, said = case_of(params, opening)
            cases[purse] = case
            report.case(f"{name} channel id", channel_id(case).hex(), said.hex())
            report.case(f"{name} reserve", True, case["reserve"] >= cbor.read(params)[6])
            check_ticks(report, name, steps, purse, case)
            for step in steps:
                for of in step["input"].get("view", {}).get("outputs", []):
                    if "seen" in of and of["txid"] == case["txid"]:
                        report.case(f"{name} script", script_pubkey(case).hex(), of["seen"]["script"])
        secret = int(steps[0]["input"]["create"]["secret"], 16)
        report.case(f"{name} key", cases[0][role], compressed(_times(G, secret)).hex())
        every = [*cases.values(), *strays_of(steps, cases)]
        coins = coins_of(steps, every)
        sent = [*txs(steps), *check_packages(report, name, steps)]
        for number, tx in enumerate(sent):
            check_tx(report, f"{name} broadcast {number}", tx, every, coins)
        check_end(report, name, role, steps, cases, coins)
