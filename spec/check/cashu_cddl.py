"""Holds the valid vectors and the transcripts of the Cashu methods to `cashu.cddl`."""

import json
import pathlib

import cbor
import cddl

SPEC = pathlib.Path(__file__).resolve().parent.parent
FOLDER = SPEC / "vectors" / "cashu"


def load(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def samples():
    """A name, the rule, and the value of everything that is valid."""
    params = load("params.json")
    for case in params["valid"]:
        rule = "locked_params" if case["params"] == "locked" else "swap_params"
        yield f"params `{case['name']}`", rule, cbor.read(bytes.fromhex(case["hex"]))
    for case in params["openings"]:
        if case["refusal"] is None:
            rule = "funding" if case["method"] == "cashu-chain" else "swap_opening"
            yield f"opening `{case['name']}`", rule, cbor.read(bytes.fromhex(case["opening"]))
    for case in load("funding.json")["valid"]:
        yield f"funding `{case['name']}`", "funding", cbor.read(bytes.fromhex(case["hex"]))
    for case in load("release.json")["cases"]:
        if case["valid"]:
            yield f"release `{case['name']}`", "release", cbor.read(bytes.fromhex(case["hex"]))
    for case in load("steps.json")["cases"]:
        if case["credits"]:
            yield f"step `{case['name']}`", "chain_payload", bytes.fromhex(case["payload"])
    yield from told()


def told():
    """What the machines of the transcripts took: openings and payloads that ended well, and releases."""
    methods = {"cashu-swap": ("swap_opening", "swap_payload"),
               "cashu-chain": ("funding", "chain_payload"), "cashu-p2pk": ("funding", "p2pk_payload")}
    for path in sorted((SPEC / "transcripts" / "cashu").glob("*.json")):
        file = json.loads(path.read_text(encoding="utf-8"))
        yield from of_transcript(path.name, file, methods)


def of_transcript(name, file, methods):
    opening, payload = methods[file["steps"][0]["input"]["create"]["config"]["method"]]
    for at, step in enumerate(file["steps"]):
        for output in step["outputs"]:
            done = output.get("outcome", {})
            title = f"{name} step {at}"
            if "opened" in done:
                yield title, opening, cbor.read(bytes.fromhex(done["opened"]["opening"]))
            if "paid" in done:
                raw = bytes.fromhex(done["paid"]["payload"])
                yield title, payload, cbor.read(raw) if payload == "swap_payload" else raw
            # A payee's note is a release; a payer's answer is a preimage.
            note = bytes.fromhex(output.get("note", {}).get("bytes", ""))
            if len(note) > 32:
                yield f"{title}, note", "release", cbor.read(note)


def check(report):
    rules = cddl.Parser((SPEC / "cashu.cddl").read_text(encoding="utf-8"))
    seen = set()
    for name, rule, value in samples():
        seen.add(rule)
        report.case(f"cddl {rule}, {name}", True, lambda: rules.holds(rule, value))
        if not isinstance(value, dict):
            continue
        # It says something: no key may be missing, none added, and no value be of another kind.
        for key in sorted(value):
            lacks = {other: value[other] for other in value if other != key}
            needed = key in rules.keys[rule]
            report.case(f"cddl {rule}, {name} without {key}", not needed,
                        lambda: rules.holds(rule, lacks))
            report.case(f"cddl {rule}, {name}, {key} is no value", False,
                        lambda: rules.holds(rule, {**value, key: True}))
        report.case(f"cddl {rule}, {name} and a key", False,
                    lambda: rules.holds(rule, {**value, 99: 0}))
        if rule == "release":
            report.case(f"cddl {rule}, {name} from 0", False,
                        lambda: rules.holds(rule, {**value, 4: 0}))
    shown = {"swap_params", "swap_opening", "swap_payload", "locked_params", "funding",
             "chain_payload", "p2pk_payload", "release"}
    report.case("cddl rules that a valid vector is held to", sorted(shown), lambda: sorted(seen))
