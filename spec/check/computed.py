"""Hashes from fields, prices from readings. Spec: session 2, pricing 1 to 4."""

import hashlib

from bip340 import tagged_hash

MONEY = 21_000_000 * 100_000_000 * 1000


def u64(value):
    return int(value).to_bytes(8, "big")


def raw(text):
    return bytes.fromhex(text)


def sha256(data):
    return hashlib.sha256(data).digest()


def terms_hash(terms):
    rates = b""
    for meter in ("time", "bytes"):
        rate = terms["tariff"].get(meter, {"msat": "0", "per": "0"})
        rates += u64(rate["msat"]) + u64(rate["per"])
    numbers = ("tick", "preview", "window", "tolerance_permille", "tolerance_ms", "live_ms",
               "resumable_s", "expires")
    preimage = sha256(terms["title"].encode()) + rates
    preimage += b"".join(u64(terms[name]) for name in numbers) + raw(terms["payee"])
    preimage += u64(terms.get("join_fee", "0"))
    for method in terms["methods"]:
        preimage += sha256(method["name"].encode()) + sha256(raw(method["params"]))
    return tagged_hash("streampay/terms/v1", preimage)


BINDING = ("session", "payer_nonce", "payee_nonce", "payer", "payee", "payer_session_key",
           "payee_session_key", "payer_certificate", "payee_certificate", "terms", "root")


def binding_hash(fields):
    versions = (fields["versions"] + ["0"] * 8)[:8]
    numbers = versions + [fields[name] for name in ("offered_features", "version", "features")]
    preimage = b"".join(map(u64, numbers)) + b"".join(raw(fields[name]) for name in BINDING)
    return tagged_hash("streampay/bind/v1", preimage)


def role_hash(binding, role):
    number = {"payer": 1, "payee": 2}[role]
    return tagged_hash("streampay/bind-role/v1", binding + u64(number))


def receipt_hash(session, receipt):
    numbers = ("purse", "seq", "cumulative", "total")
    preimage = raw(session) + b"".join(u64(receipt[name]) for name in numbers)
    reading = receipt["reading"]
    return tagged_hash("streampay/receipt/v1",
                       preimage + u64(reading["media_ms"]) + u64(reading["bytes"])
                       + u64(receipt.get("tips", "0")))


def offer_hash(session, terms, start):
    return tagged_hash("streampay/offer/v1", raw(session) + terms_hash(terms) + u64(start))


def closed_hash(session, nonce, code, evidence):
    receipt = receipt_hash(session, evidence["receipt"]) if evidence else bytes(32)
    return tagged_hash("streampay/closed/v1", raw(session) + raw(nonce) + u64(code) + receipt)


def invitation_hash(invitation):
    return tagged_hash("streampay/invitation/v1", sha256(invitation))


def entropy(seed, label):
    return tagged_hash("streampay/entropy/v1", seed + sha256(label.encode()))


def hash_of(case):
    fields = case["fields"]
    return {
        "terms": lambda: terms_hash(fields["terms"]),
        "binding": lambda: binding_hash(fields),
        "binding_role": lambda: role_hash(raw(fields["binding"]), fields["role"]),
        "receipt": lambda: receipt_hash(fields["session"], fields["receipt"]),
        "offer": lambda: offer_hash(fields["session"], fields["terms"], fields["from"]),
        "closed": lambda: closed_hash(fields["session"], fields["nonce"], fields["code"], fields.get("evidence")),
        "tcp": lambda: tagged_hash("streampay/tcp/v1", raw(fields["random"])),
        "invitation": lambda: invitation_hash(raw(fields["invitation"])),
        "entropy": lambda: entropy(raw(fields["entropy"]), fields["label"]),
        "tagged": lambda: tagged_hash(case["tag"], raw(case["preimage"])),
    }[case["what"]]()


def meters(reading):
    return [int(reading["media_ms"]), int(reading["bytes"])]


def price(tariff, amounts):
    """All meters summed exactly, rounded up once, at most all the money there is."""
    top, bottom = 0, 1
    for meter, amount in zip(("time", "bytes"), amounts):
        if meter in tariff:
            msat, per = int(tariff[meter]["msat"]), int(tariff[meter]["per"])
            top, bottom = top * per + msat * amount * bottom, bottom * per
    return min(-(-top // bottom), MONEY)


def since(reading, base):
    return [max(0, now - then) for now, then in zip(reading, base)]


def used(schedule, reading):
    base, known = meters(schedule["base"]), meters(schedule["known"])

    def by_this(at):
        cost = int(schedule["base_msat"]) + price(schedule["tariff"], since(at, base))
        return min(cost, MONEY)

    following = schedule.get("next")
    if following is None or by_this(reading) <= int(following["from"]):
        return by_this(reading)
    way = since(reading, known)
    steps = max(way)

    def at(step):
        return [start + (part * step // steps if steps else 0) for start, part in zip(known, way)]

    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        if by_this(at(middle)) > int(following["from"]):
            high = middle
        else:
            low = middle
    later = price(following["tariff"], since(reading, at(low)))
    return min(int(following["from"]) + later, MONEY)


def within(tariff, cap):
    for meter, rate in tariff.items():
        most = cap.get(meter)
        if most is None:
            if int(rate["msat"]):
                return False
        elif int(rate["msat"]) * int(most["per"]) > int(most["msat"]) * int(rate["per"]):
            return False
    return True


def result_of(case):
    fields, what = case["fields"], case["what"]
    if what == "price":
        return str(price(fields["tariff"], meters(fields["reading"])))
    if what == "used":
        return str(used(fields["schedule"], meters(fields["reading"])))
    if what == "tick":
        quantum = int(fields["quantum"])
        return str(-(-int(fields["tick"]) // quantum) * quantum)
    if what == "within":
        return within(fields["tariff"], fields["cap"])
    grant = fields["grant"]
    if "limit" not in grant:
        return False
    return used(grant["schedule"], meters(fields["reading"])) <= int(grant["limit"])
