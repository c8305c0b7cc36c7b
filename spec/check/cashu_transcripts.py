"""Checks `transcripts/cashu` by what the machines said: secrets, signatures, preimages, sums.

It has no machine: it follows what was opened and credited, and works out what each thing that was
said must be. Spec: cashu 2, 3, 4; conformance 8.
"""

import hashlib
import json
import pathlib

import bip340
import cbor
import cashu
import cashu_params

ZEROS = "00" * 32


class Purse:
    """A purse of locked ecash, by its opening."""

    def __init__(self, opening, receiver, chain):
        value = cbor.read(opening)
        self.amounts, self.steps = value[12], value[10]
        self.locktime, self.refund, self.salt = value[14], value[16].hex(), value[18].hex()
        self.locks = [value[20][at:at + 32].hex() for at in range(0, len(value[20]), 32)]
        self.proofs, self.receiver, self.chain = value[22], receiver, chain
        self.credited, self.seq, self.payload, self.known = 0, 0, None, None
        self.closed = False

    def count(self):
        return self.steps * len(self.amounts)

    def step_of(self, number):
        return number // len(self.amounts) + 1

    def amount(self, number):
        return self.amounts[number % len(self.amounts)]

    def secret(self, number):
        numbered = {"salt": self.salt, "number": number}
        case = {
            "kind": "HTLC" if self.chain else "P2PK",
            "nonce": cashu.numbered("streampay/cashu/nonce/v1", numbered),
            "lock": self.locks[self.step_of(number) - 1] if self.chain else None,
            "receiver": self.receiver, "refund": self.refund, "locktime": self.locktime,
        }
        return cashu.secret(case)

    def blinding(self, number):
        return cashu.numbered("streampay/cashu/blinding/v1", {"salt": self.salt, "number": number})

    def code(self, tick, step_msat):
        """Of a tick of `cashu-chain`, as 3.6 has it; none where it is credited."""
        seq, payload = int(tick["seq"]), bytes.fromhex(tick["payload"])
        if seq == self.seq and self.payload is not None:
            return None if tick["payload"] == self.payload else "14"
        if self.closed or seq <= self.seq:
            return "14"
        amount, cumulative = int(tick["amount"]), int(tick["cumulative"])
        if cumulative % step_msat or self.credited * step_msat + amount != cumulative:
            return "2"
        step = cumulative // step_msat
        if step > self.steps:
            return "10"
        if step <= self.credited:
            return "2"
        if len(payload) != 32:
            return "1"
        case = {"payload": tick["payload"], "step": step, "credited": self.credited,
                "known": self.known}
        return None if cashu.credits({"locks": self.locks}, case) else "9"

    def credit(self, tick, step_msat):
        self.credited = int(tick["cumulative"]) // step_msat
        self.seq, self.payload, self.known = int(tick["seq"]), tick["payload"], tick["payload"]


def dleq(key, blinded, signature, e, s):
    """Whether e and s show that the mint of this key signed. Source: NUT-12."""
    def both(base, point):
        times = bip340._times(point, bip340.N - e)
        return bip340._plus(bip340._times(base, s), times)
    points = [both(bip340.G, key), both(blinded, signature), key, signature]
    text = "".join("04%064x%064x" % point for point in points)
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) == e


class Mint:
    def __init__(self):
        keys = cashu.load("funding.json")["mint"]["keys"]
        self.keys = {key["amount"]: cashu.point(key["key"]) for key in keys}
        self.secrets = {key["amount"]: int(key["secret"], 16) for key in keys}
        self.seen = set()

    def signed(self, purse, number, piece):
        if piece in self.seen:
            return True
        self.seen.add(piece)
        c, e, s = piece[:33], int.from_bytes(piece[33:65], "big"), int.from_bytes(piece[65:], "big")
        r, key = int(purse.blinding(number), 16), self.keys[purse.amount(number)]
        y = cashu.point(cashu.hash_to_curve(purse.secret(number).encode()))
        blinded = bip340._plus(y, bip340._times(bip340.G, r))
        signature = bip340._plus(cashu.point(c.hex()), bip340._times(key, r))
        return dleq(key, blinded, signature, e, s)

    def coin(self, coin):
        y = cashu.point(cashu.hash_to_curve(coin[2].hex().encode()))
        return cashu.compressed(bip340._times(y, self.secrets[coin[1]])) == coin[3].hex()


class Story:
    """One side, as far as a reader knows it."""

    def __init__(self, report, name, mint):
        self.report, self.name, self.mint = report, name, mint
        self.purses, self.offers, self.funds, self.waiting, self.fees = {}, {}, {}, {}, {}
        self.proofs, self.pay = {}, None

    def case(self, at, what, expected, compute):
        self.report.case(f"{self.name} step {at} {what}", expected, compute)

    def receiver(self, purse):
        offer = self.offers[purse]
        params = cashu_params.decode(bytes.fromhex(offer["params"]), True)
        return cashu.receiver({
            "root": params[1].hex(), "payee_session_key": offer["payee_key"],
            "payer_session_key": offer["payer_key"], "session": self.session, "purse": purse,
        })

    def open(self, number, opening):
        if self.method != "cashu-swap":
            chain = self.method == "cashu-chain"
            self.purses[number] = Purse(bytes.fromhex(opening), self.receiver(number), chain)

    def told(self, at, said):
        if "create" in said:
            config = said["create"]["config"]
            self.method, self.session = config["method"], config["session"]
        request = said.get("request", {})
        number = int(request.get("purse", 0))
        for kind in ("open", "accept"):
            if kind in request:
                self.offers[number] = request[kind]
        if "accept" in request and number not in self.purses:
            self.open(number, request["accept"]["opening"])
        if "receive" in request:
            self.waiting[number] = request["receive"]
        if "settle" in request:
            self.waiting.pop(number, None)
        if request:
            self.pay = request.get("pay")
        done = said.get("done", {})
        for name in ("planned", "verified"):
            if "ppk" in done.get(name, {}):
                self.fees[int(done["purse"])] = int(done[name]["ppk"])
        if "proofs" in done.get("funded", {}):
            self.proofs[int(done["purse"])] = done["funded"]["proofs"]

    def tick(self, number):
        return -(-int(self.offers[number]["tick"]) // 1000) * 1000

    def outcome(self, at, said, outputs):
        number = int(said["purse"])
        if "opened" in said and self.method != "cashu-swap":
            self.open(number, said["opened"]["opening"])
            self.opened(at, number)
        if "paid" in said:
            self.paid(at, number, said["paid"]["payload"])
        tick = self.waiting.get(number)
        code = said.get("failed", {}).get("rejected", {}).get("code")
        if tick and self.method == "cashu-chain" and ("credited" in said or code):
            # What the mint and its clock say is not to be worked out.
            if code not in ("5", "16"):
                expected = self.purses[number].code(tick, self.tick(number))
                self.case(at, "tick", expected, lambda: code)
            del self.waiting[number]

    def opened(self, at, number):
        purse, outputs = self.purses[number], self.funds.get(number)
        for n, output in enumerate(outputs or []):
            self.case(at, f"secret {n}", output["secret"], lambda: purse.secret(n))
            self.case(at, f"blinding {n}", output["r"], lambda: purse.blinding(n))
            self.case(at, f"amount {n}", output["amount"], lambda: str(purse.amount(n)))
        proofs = bytes.fromhex(self.proofs[number])
        if purse.chain:
            self.case(at, "proofs", proofs, lambda: purse.proofs)
        for n in range(purse.count()):
            piece = proofs[97 * n:97 * n + 97]
            self.case(at, f"DLEQ {n}", True, lambda: self.mint.signed(purse, n, piece))

    def paid(self, at, number, payload):
        step = int(self.pay["cumulative"]) // self.tick(number) if self.pay else None
        if self.method == "cashu-swap":
            value = cbor.read(bytes.fromhex(payload))
            coins = value[10]
            self.case(at, "bound", (self.session, number), lambda: (value[0].hex(), value[2]))
            self.case(at, "coins", True, lambda: all(map(self.mint.coin, coins)))
        elif step and self.method == "cashu-chain":
            lock = self.purses[number].locks[step - 1]
            digest = hashlib.sha256(bytes.fromhex(payload)).hexdigest()
            self.case(at, "preimage", lock, lambda: digest)
        elif step:
            size = 194 * len(self.purses[number].amounts)
            part = self.proofs[number][size * (step - 1):size * step]
            self.case(at, "proofs shown", part, lambda: payload)

    def effect(self, at, said):
        number = int(said["purse"])
        purse = self.purses.get(number)
        if "fund" in said and self.method != "cashu-swap":
            self.funds[number] = said["fund"]["outputs"]
        if "verify" in said:
            self.case(at, "receiver", said["verify"]["receiver"], lambda: self.receiver(number))
        if "check" in said and purse:
            numbers = range(int(said["check"]["from"]), purse.count())
            self.case(at, "Ys", said["check"]["ys"], lambda: [
                cashu.hash_to_curve(purse.secret(n).encode()) for n in numbers])
        if "redeem" in said:
            self.redeem(at, number, purse, said["redeem"])
        for name in ("sign", "check_release"):
            if name in said:
                secrets = said[name]["secrets"]
                first = purse.count() - len(secrets)
                self.case(at, name, secrets,
                          lambda: [purse.secret(n) for n in range(first, purse.count())])

    def redeem(self, at, number, purse, said):
        inputs, fee = said["inputs"], self.fees[number]
        numbers = [int(spent["number"]) for spent in inputs]
        total = sum(purse.amount(n) for n in numbers) - -(-len(numbers) * fee // 1000)
        self.case(at, "net", said["net"], lambda: str(total))
        self.case(at, "ascending", True, lambda: numbers == sorted(set(numbers)))
        for spent, n in zip(inputs, numbers):
            if not purse.chain:
                self.case(at, f"witness {n}", None, lambda: spent.get("preimage"))
            elif said["by"] == "refund":
                self.case(at, f"witness {n}", ZEROS, lambda: spent["preimage"])
            else:
                lock = purse.locks[purse.step_of(n) - 1]
                digest = hashlib.sha256(bytes.fromhex(spent["preimage"])).hexdigest()
                self.case(at, f"witness {n}", lock, lambda: digest)

    def note(self, at, said):
        number = int(said["purse"])
        purse, value = self.purses[number], cbor.read(bytes.fromhex(said["bytes"]))
        self.case(at, "release bound", (self.session, number),
                  lambda: (value[0].hex(), value[2]))
        first = (value[4] - 1) * len(purse.amounts)
        key = bytes.fromhex(purse.receiver)[1:]
        self.case(at, "release length", 64 * (purse.count() - first), lambda: len(value[6]))
        for n in range(first, purse.count()):
            digest = hashlib.sha256(purse.secret(n).encode()).digest()
            signature = value[6][64 * (n - first):64 * (n - first + 1)]
            self.case(at, f"release {n}", True, lambda: bip340.verify(key, digest, signature))

    def durable(self, said):
        """A tick's credit is durable: it is, whether anybody is told or not."""
        number = int(said["purse"])
        tick, purse = self.waiting.get(number), self.purses.get(number)
        if tick and purse and self.method == "cashu-chain":
            if purse.code(tick, self.tick(number)) is None and int(tick["seq"]) > purse.seq:
                purse.credit(tick, self.tick(number))


def check(report):
    folder = pathlib.Path(__file__).resolve().parent.parent / "transcripts" / "cashu"
    mint = Mint()
    for path in sorted(folder.glob("*.json")):
        story = Story(report, path.name, mint)
        file = json.loads(path.read_text(encoding="utf-8"))
        for at, step in enumerate(file["steps"]):
            story.told(at, step["input"])
            if "settle" in step["input"].get("request", {}):
                purse = story.purses.get(int(step["input"]["request"]["purse"]))
                if purse and {"persist"} & {name for out in step["outputs"] for name in out}:
                    purse.closed = True
            for output in step["outputs"]:
                for name, said in output.items():
                    if name == "outcome":
                        story.outcome(at, said, step["outputs"])
                    elif name == "effect":
                        story.effect(at, said)
                    elif name == "note":
                        story.note(at, said)
                    elif name == "persist":
                        story.durable(said)
