"""Checks the vectors and transcripts without any code of the implementation that wrote them.

    python3 spec/check/check_vectors.py

Needs Python 3.8 or later and nothing else. Prints a line for each case that fails, and ends with
`N passed, N failed`.
"""

import json
import pathlib
import sys

import bip340
import cashu
import cashu_cddl
import cashu_transcripts
import cbor
import computed
import media
import messages

SPEC = pathlib.Path(__file__).resolve().parent.parent


class Report:
    def __init__(self):
        self.passed, self.failed = 0, 0

    def case(self, name, expected, compute):
        try:
            found = compute()
        except cbor.WireError as error:
            found = error.as_json()
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            found = repr(error)
        if found == expected:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {name}: expected {str(expected)[:200]}, found {str(found)[:200]}")


def decoded(file, data):
    """The fields, where the type is the one that the file is about."""
    if file["message"] == "terms":
        return messages.decode_terms(data)
    name, fields = messages.decode(data)
    return fields if name == file["message"] else name


def check_messages(report, name, file):
    for case in file.get("valid", []):
        data = bytes.fromhex(case["hex"])
        title = f"{name} valid `{case['name']}`"
        report.case(title, case["fields"], lambda: decoded(file, data))
        known = cbor.write(cbor.read(data))
        report.case(f"{title} written", case["hex"], known.hex)
    for case in file["invalid"]:
        data = bytes.fromhex(case["hex"])
        title = f"{name} invalid `{case['name']}`"
        report.case(title, case["error"], lambda: decoded(file, data))
    for case in file.get("ignored", []):
        data = bytes.fromhex(case["hex"])
        report.case(f"{name} ignored `{case['name']}`", None, lambda: messages.decode(data))


def check_hashes(report, file):
    for case in file["cases"]:
        name, preimage = f"hash `{case['name']}`", bytes.fromhex(case["preimage"])
        report.case(name, case["hash"], lambda: computed.hash_of(case).hex())
        report.case(f"{name} by its preimage", case["hash"],
                    lambda: bip340.tagged_hash(case["tag"], preimage).hex())
        if "parts" in case:
            parts = "".join(part["hex"] for part in case["parts"])
            report.case(f"{name} in parts", case["preimage"], lambda: parts)


def check_signatures(report, file):
    for case in file["cases"]:
        name = f"signature `{case['name']}`"
        key, digest, signature = (bytes.fromhex(case[part])
                                  for part in ("key", "hash", "signature"))
        report.case(name, case["valid"], lambda: bip340.verify(key, digest, signature))
        if "secret_key" in case:
            secret, aux = bytes.fromhex(case["secret_key"]), bytes.fromhex(case["aux"])
            report.case(f"{name}, its key", case["key"], lambda: bip340.public_key(secret).hex())
            report.case(f"{name} made", case["signature"],
                        lambda: bip340.sign(secret, digest, aux).hex())


def check_prices(report, file):
    for case in file["cases"]:
        report.case(f"price `{case['name']}`", case["result"], lambda: computed.result_of(case))


def said(step):
    """What is said in a step, in order, and by whom: the side itself says `True`."""
    if "received" in step["input"]:
        yield False, bytes.fromhex(step["input"]["received"])
    for output in step["outputs"]:
        if "send" in output:
            yield True, bytes.fromhex(output["send"])


class Connection:
    """What a transcript's connection is bound to, as far as it is said."""

    def __init__(self, up, before):
        self.up, self.hello, self.welcome, self.bind = up, None, None, None
        self.nonces, self.payee_key = [], before and before.payee_key

    def note(self, name, fields):
        if name == "hello":
            self.nonces.append(fields["nonce"])
        if name == "welcome":
            self.payee_key = bytes.fromhex(fields["session_key"])
        if name in ("hello", "welcome", "bind"):
            setattr(self, name, fields)

    def signatures(self):
        """Key, hash and signature of all that had to be signed to be bound."""
        hello, welcome = self.hello, self.welcome
        terms, payee = welcome["terms"], bytes.fromhex(welcome["terms"]["payee"])
        terms_hash = computed.terms_hash(terms)
        binding = computed.binding_hash({
            "versions": hello["versions"], "offered_features": hello["features"],
            "version": welcome["version"], "features": welcome["features"],
            "session": hello["session"],
            "payer_nonce": hello["nonce"], "payee_nonce": welcome["nonce"],
            "payer": hello["identity"], "payee": terms["payee"],
            "payer_session_key": hello["session_key"],
            "payee_session_key": welcome["session_key"],
            "payer_certificate": self.up["payer"], "payee_certificate": self.up["payee"],
            "terms": terms_hash.hex(), "root": hello.get("root", "00" * 32),
        })
        payer = bytes.fromhex(hello["identity"])
        return [
            (payee, terms_hash, welcome["terms_signature"]),
            (payee, computed.role_hash(binding, "payee"), welcome["binding"]),
            (payer, computed.role_hash(binding, "payer"), self.bind["binding"]),
        ]


def verified(signatures):
    return all(bip340.verify(key, digest, bytes.fromhex(signature))
               for key, digest, signature in signatures)


class Given:
    """The tips of a session: what ticks say of them, and receipts."""

    def __init__(self):
        self.ticks, self.receipted = {}, 0

    def check(self, report, title, own, name, fields, welcome):
        if name == "tick":
            # A number that is used stays what it was.
            self.ticks.setdefault((fields["purse"], fields["seq"]), fields)
            if own and "tips" in fields:
                # Payments of all transcripts are in whole sats: a step is the tick of the terms.
                sum_with_it = self.receipted + int(welcome["terms"]["tick"])
                report.case(f"{title} tips", str(sum_with_it), lambda: fields["tips"])
        if name in ("ack", "ready", "closed") and "evidence" in fields:
            receipt = fields["evidence"]["receipt"]
            tick = self.ticks.get((receipt["purse"], receipt["seq"]), {})
            tips = int(receipt.get("tips", 0))
            if own and "tips" in tick:
                report.case(f"{title} tips", max(self.receipted, int(tick["tips"])), lambda: tips)
            self.receipted = max(self.receipted, tips)


def check_invitation(report, title, step):
    """A room is shown the hash of an invitation, not the invitation."""
    shown = [output["event"]["room"]["join"] for output in step["outputs"]
             if "join" in output.get("event", {}).get("room", {})]
    for join in shown:
        _, fields = messages.decode(bytes.fromhex(step["input"]["received"]))
        invitation = fields.get("invitation")
        expected = computed.invitation_hash(bytes.fromhex(invitation)).hex() if invitation else None
        report.case(f"{title} invitation", expected, lambda: join.get("invitation"))


def check_proof(report, title, connection, closed):
    """That a session is over, said to a hello of this connection by the key that signs its receipts."""
    session, signature = connection.hello["session"], bytes.fromhex(closed["proof"])
    digests = [computed.closed_hash(session, nonce, closed["code"], closed.get("evidence"))
               for nonce in connection.nonces]
    proves = lambda digest: bip340.verify(connection.payee_key, digest, signature)
    report.case(f"{title} proof", True, lambda: any(map(proves, digests)))


def check_transcript(report, name, file):
    """All that the side says is a message; what is bound and acknowledged is signed."""
    connection, given = None, Given()
    for at, step in enumerate(file["steps"]):
        title = f"{name} step {at}"
        if "link_up" in step["input"]:
            connection = Connection(step["input"]["link_up"], connection)
        check_invitation(report, title, step)
        for own, data in said(step):
            try:
                message = messages.decode(data)
            except cbor.WireError as error:
                if own:
                    report.case(f"{title} sends", "a message", error.as_json)
                continue
            if message is None or connection is None:
                continue
            connection.note(*message)
            given.check(report, title, own, *message, connection.welcome)
            if own and file["role"] == "payee" and message[0] == "ack":
                evidence = message[1]["evidence"]
                digest = computed.receipt_hash(connection.hello["session"], evidence["receipt"])
                key = bytes.fromhex(connection.welcome["session_key"])
                signature = bytes.fromhex(evidence["signature"])
                report.case(f"{title} receipt", True, lambda: bip340.verify(key, digest, signature))
            if own and "proof" in message[1]:
                check_proof(report, title, connection, message[1])
        if any("bound" in output.get("event", {}) for output in step["outputs"]):
            report.case(f"{title} bound", True, lambda: verified(connection.signatures()))


def files(folder):
    for path in sorted((SPEC / folder).glob("*.json")):
        yield path.name, json.loads(path.read_text(encoding="utf-8"))


def main():
    report = Report()
    checks = {
        "hashes.json": check_hashes,
        "signatures.json": check_signatures,
        "pricing.json": check_prices,
    }
    for name, file in files("vectors"):
        if name in checks:
            checks[name](report, file)
        else:
            check_messages(report, name, file)
    cashu.check(report)
    cashu_cddl.check(report)
    cashu_transcripts.check(report)
    media.check(report)
    for name, file in files("transcripts"):
        check_transcript(report, name, file)
    print(f"{report.passed} passed, {report.failed} failed")
    sys.exit(1 if report.failed or not report.passed else 0)


if __name__ == "__main__":
    main()
