"""Channels, their transactions and signatures, from the BIPs alone: readable, not constant-time."""

import hashlib

from bip340 import G, N, P, _lift_x, _plus, _times, tagged_hash, verify

DUST = {22: 294, 34: 330}
SINGLE, NONE, ALL, DEFAULT = 0x83, 0x82, 0x01, 0x00


def sha256(data):
    return hashlib.sha256(data).digest()


def double(data):
    return sha256(sha256(data))


def point(key):
    x = int.from_bytes(key[1:], "big")
    even = _lift_x(x)
    return even if key[0] == 2 else (even[0], P - even[1])


def compressed(where):
    return bytes([2 + where[1] % 2]) + where[0].to_bytes(32, "big")


def key_agg(keys):
    """BIP 327, KeyAgg of KeySort."""
    keys = sorted(keys)
    second = next((key for key in keys if key != keys[0]), None)
    whole = tagged_hash("KeyAgg list", b"".join(keys))
    total = None
    for key in keys:
        factor = 1
        if key != second:
            factor = int.from_bytes(tagged_hash("KeyAgg coefficient", whole + key), "big") % N
        total = _plus(total, _times(point(key), factor))
    return total


def payee_tweak(case):
    data = bytes.fromhex(case["payee_base"] + case["payer"] + case["session"])
    data += case["purse"].to_bytes(4, "big")
    return int.from_bytes(tagged_hash("streampay/btc/payee/v1", data), "big")


def push(data):
    return bytes([len(data)]) + data


def number(value):
    if 1 <= value <= 16:
        return bytes([0x50 + value])
    data = value.to_bytes((value.bit_length() + 8) // 8, "little")
    return push(data)


def script(case):
    """<S> CHECKSIG NOTIF <T> CLTV VERIFY ENDIF <V> CHECKSIG."""
    payer, payee = (bytes.fromhex(case[side]) for side in ("payer", "payee"))
    if case["type"] == 0:
        payer, payee = payer[1:], payee[1:]
    return (push(payee) + b"\xac\x64" + number(case["expiry"]) + b"\xb1\x69\x68"
            + push(payer) + b"\xac")


def leaf_hash(case):
    data = script(case)
    return tagged_hash("TapLeaf", b"\xc0" + bytes([len(data)]) + data)


def output_key(case):
    internal = key_agg([bytes.fromhex(case["payer"]), bytes.fromhex(case["payee"])])
    inside = internal[0].to_bytes(32, "big")
    tweak = int.from_bytes(tagged_hash("TapTweak", inside + leaf_hash(case)), "big")
    return inside, _plus(_lift_x(internal[0]), _times(G, tweak))


def script_pubkey(case):
    if case["type"] == 0:
        return b"\x51\x20" + output_key(case)[1][0].to_bytes(32, "big")
    return b"\x00\x20" + sha256(script(case))


def address(case):
    """BIP 350 for Taproot, BIP 173 for P2WSH."""
    program = script_pubkey(case)
    version, data, bits, count = program[0] and 1, [], 0, 0
    for byte in program[2:]:
        bits, count = bits << 8 | byte, count + 8
        while count >= 5:
            count -= 5
            data.append(bits >> count & 31)
    if count:
        data.append(bits << (5 - count) & 31)
    data = [version] + data
    part = "bcrt"
    values = [ord(c) >> 5 for c in part] + [0] + [ord(c) & 31 for c in part] + data + [0] * 6
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1ffffff) << 5 ^ value
        for bit, factor in enumerate((0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3)):
            check ^= factor if top >> bit & 1 else 0
    check ^= 0x2bc830a3 if version else 1
    data += [check >> 5 * (5 - at) & 31 for at in range(6)]
    return part + "1" + "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[value] for value in data)


def descriptor(case):
    payer, payee = case["payer"], case["payee"]
    if case["type"] == 0:
        payer, payee = payer[2:], payee[2:]
    rule = f"and_v(or_c(pk({payee}),v:after({case['expiry']})),pk({payer}))"
    text = f"tr({output_key(case)[0].hex()},{rule})" if case["type"] == 0 else f"wsh({rule})"
    return f"{text}#{descriptor_checksum(text)}"


def descriptor_checksum(text):
    """BIP 380."""
    inputs = ("0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~"
              "ijklmnopqrstuvwxyzABCDEFGH`#\"\\ ")
    symbols, groups = [], []
    for char in text:
        value = inputs.index(char)
        symbols.append(value & 31)
        groups.append(value >> 5)
        if len(groups) == 3:
            symbols.append(groups[0] * 9 + groups[1] * 3 + groups[2])
            groups = []
    if len(groups) == 1:
        symbols.append(groups[0])
    elif len(groups) == 2:
        symbols.append(groups[0] * 3 + groups[1])
    check = 1
    for value in symbols + [0] * 8:
        top = check >> 35
        check = (check & 0x7ffffffff) << 5 ^ value
        for bit, factor in enumerate((0xf5dee51989, 0xa9fdca3312, 0x1bab10e32d, 0x3706b1677a,
                                      0x644d626ffd)):
            check ^= factor if top >> bit & 1 else 0
    check ^= 1
    return "".join("qpzry9x8gf2tvdw0s3jn54khce6mua7l"[check >> 5 * (7 - at) & 31]
                   for at in range(8))


def channel_id(case):
    change = bytes.fromhex(case["change_script"])
    data = bytes.fromhex(case["chain"])[::1] + bytes([case["type"]])
    data += bytes.fromhex(case["payer"] + case["payee"]) + case["expiry"].to_bytes(4, "big")
    data += bytes.fromhex(case["txid"]) + case["vout"].to_bytes(4, "big")
    data += case["value"].to_bytes(8, "big") + case["reserve"].to_bytes(8, "big") + sha256(change)
    return tagged_hash("streampay/btc/channel/v1", data)


def output(value, where):
    return value.to_bytes(8, "little") + bytes([len(where)]) + where


def outpoint(case):
    return bytes.fromhex(case["txid"]) + case["vout"].to_bytes(4, "little")


SEQUENCE = b"\xfd\xff\xff\xff"


class Tx:
    """A transaction with witnesses, read from its bytes."""

    def __init__(self, data):
        self.data, self.at = data, 0
        self.version = self.take(4)
        assert self.take(2) == b"\x00\x01"
        self.inputs = [(self.take(36), self.take(self.count()), self.take(4))
                       for _ in range(self.count())]
        self.outputs = []
        for _ in range(self.count()):
            value = int.from_bytes(self.take(8), "little")
            self.outputs.append((value, self.take(self.count())))
        base = self.at - 2
        self.witnesses = [[self.take(self.count()) for _ in range(self.count())]
                          for _ in self.inputs]
        self.lock_time = self.take(4)
        assert self.at == len(data)
        self.weight = 3 * (base + 4) + len(data)

    def take(self, size):
        self.at += size
        return self.data[self.at - size:self.at]

    def count(self):
        first = self.take(1)[0]
        return first if first < 0xfd else int.from_bytes(self.take(2), "little")


def template(case, change):
    """What the payer signs, as far as hashes look at it."""
    outputs = [] if change is None else [(change, bytes.fromhex(case["change_script"]))]
    return b"\x03\x00\x00\x00", b"\x00" * 4, outputs


def taproot_sighash(case, flag, version, lock_time, outputs, index=0, all_inputs=None):
    """BIP 341 with the extension of BIP 342."""
    data = bytes([0, flag]) + version + lock_time
    if flag == DEFAULT:
        data += sha256(b"".join(point for point, _, _ in all_inputs))
        data += sha256(b"".join(value.to_bytes(8, "little") for _, value, _ in all_inputs))
        data += sha256(b"".join(bytes([len(spk)]) + spk for _, _, spk in all_inputs))
        data += sha256(SEQUENCE * len(all_inputs))
        data += sha256(b"".join(output(*out) for out in outputs))
        data += b"\x02" + index.to_bytes(4, "little")
    else:
        data += b"\x02" + outpoint(case) + output(case["value"], script_pubkey(case)) + SEQUENCE
        if flag == SINGLE:
            data += sha256(output(*outputs[index]))
    data += leaf_hash(case) + b"\x00" + b"\xff\xff\xff\xff"
    return tagged_hash("TapSighash", data)


def wsh_sighash(case, flag, version, lock_time, outputs, index=0, all_inputs=None):
    """BIP 143."""
    zero = b"\x00" * 32
    data = version
    if flag == ALL:
        data += double(b"".join(point for point, _, _ in all_inputs))
        data += double(SEQUENCE * len(all_inputs))
    else:
        data += zero + zero
    code = script(case)
    data += outpoint(case) + bytes([len(code)]) + code
    data += case["value"].to_bytes(8, "little") + SEQUENCE
    if flag == ALL:
        data += double(b"".join(output(*out) for out in outputs))
    elif flag == SINGLE:
        data += double(output(*outputs[index]))
    else:
        data += zero
    return double(data + lock_time + flag.to_bytes(4, "little"))


def sighash(case, *rest, **named):
    return (taproot_sighash if case["type"] == 0 else wsh_sighash)(case, *rest, **named)


def ecdsa_verify(key, digest, der):
    """BIP 66, and a low S."""
    if len(der) < 8 or der[0] != 0x30 or der[1] != len(der) - 2 or der[2] != 2:
        return False
    size = der[3]
    r = int.from_bytes(der[4:4 + size], "big")
    if der[4 + size] != 2 or der[5 + size] != len(der) - 6 - size:
        return False
    s = int.from_bytes(der[6 + size:], "big")
    if not (0 < r < N and 0 < s <= N // 2):
        return False
    inverse = pow(s, N - 2, N)
    z = int.from_bytes(digest, "big")
    found = _plus(_times(G, z * inverse % N), _times(point(key), r * inverse % N))
    return found is not None and found[0] % N == r


def is_der(data):
    """BIP 66, but for the length."""
    numbers, at = 0, 2
    if len(data) < 2 or data[0] != 0x30 or data[1] != len(data) - 2:
        return False
    while at < len(data):
        if len(data) < at + 2 or data[at] != 2 or not 0 < data[at + 1] <= len(data) - at - 2:
            return False
        value = data[at + 2:at + 2 + data[at + 1]]
        if value[0] & 0x80 or len(value) > 1 and value[0] == 0 and not value[1] & 0x80:
            return False
        numbers, at = numbers + 1, at + 2 + len(value)
    return numbers == 2


def signature_error(case, paid, signature):
    """None where it is the payer's update for `paid`; else why not, in the chapter's order."""
    change_script = bytes.fromhex(case["change_script"])
    if paid <= case["reserve"]:
        return "UnderReserve"
    change = case["value"] - paid
    if change < 0:
        return "OverCapacity"
    if 0 < change < DUST[len(change_script)]:
        return "ChangeIsDust"
    if not signature:
        return "Malformed"
    flag, body = signature[-1], signature[:-1]
    if len(body) != 64 if case["type"] == 0 else not is_der(body):
        return "Malformed"
    if flag != (SINGLE if change else NONE):
        return "SighashType"
    version, lock_time, outputs = template(case, change or None)
    digest = sighash(case, flag, version, lock_time, outputs)
    return None if verifies(case, "payer", digest, body) else "Signature"


def verifies(case, side, digest, body):
    key = bytes.fromhex(case[side])
    if case["type"] == 0:
        return verify(key[1:], digest, body)
    return ecdsa_verify(key, digest, body)


def spent_outputs(tx, cases, coins=None):
    known = {outpoint(other): (other["value"], script_pubkey(other)) for other in cases}
    known.update(coins or {})
    return [(point, *known[point]) for point, _, _ in tx.inputs]


def spends_coin(tx, index, all_inputs):
    """BIP 341: the key path under SIGHASH_DEFAULT."""
    data = bytes([0, DEFAULT]) + tx.version + tx.lock_time
    data += sha256(b"".join(point for point, _, _ in all_inputs))
    data += sha256(b"".join(value.to_bytes(8, "little") for _, value, _ in all_inputs))
    data += sha256(b"".join(bytes([len(spk)]) + spk for _, _, spk in all_inputs))
    data += sha256(b"".join(sequence for _, _, sequence in tx.inputs))
    data += sha256(b"".join(output(*out) for out in tx.outputs))
    digest = tagged_hash("TapSighash", data + b"\x00" + index.to_bytes(4, "little"))
    where, witness = all_inputs[index][2], tx.witnesses[index]
    return where[:2] == b"\x51\x20" and len(witness) == 1 and verify(where[2:], digest, witness[0])


def spends(tx, index, case, cases, refund, coins=None):
    """True where the input is satisfied: both sides, or after the expiry the payer alone. `coins` are
    values and scripts of what is spent beside channels."""
    stack = tx.witnesses[index]
    where = script_pubkey(case)
    all_inputs = spent_outputs(tx, cases, coins)
    rest = dict(version=tx.version, lock_time=tx.lock_time, outputs=tx.outputs, index=index,
                all_inputs=all_inputs)
    if case["type"] == 0:
        payer, payee, leaf, control = stack
        inside, outside = output_key(case)
        expected = bytes([0xc0 + outside[1] % 2]) + inside
        if leaf != script(case) or control != expected:
            return False
        final = DEFAULT
    else:
        payer, payee, leaf = stack
        if leaf != script(case) or where != b"\x00\x20" + sha256(leaf):
            return False
        final = ALL
    if refund:
        late = int.from_bytes(tx.lock_time, "little") >= case["expiry"]
        body = payer if final == DEFAULT else payer[:-1]
        return late and payee == b"" and verifies(case, "payer", sighash(case, final, **rest), body)
    body = payee if final == DEFAULT else payee[:-1]
    flag = payer[-1]
    return (flag in (SINGLE, NONE)
            and verifies(case, "payer", sighash(case, flag, **rest), payer[:-1])
            and verifies(case, "payee", sighash(case, final, **rest), body))
