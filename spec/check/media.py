"""Checks `vectors/media` with AES-128-GCM and HKDF-SHA256 written here, and RFC 9605."""

import hashlib
import hmac
import json
import pathlib

import bip340
import meters
import signalling

CODECS = {"video/VP8": 1, "audio/opus": 2}
COUNTERS = 1024
BEHIND = 20


def load(name):
    folder = pathlib.Path(__file__).resolve().parent.parent / "vectors" / "media"
    return json.loads((folder / name).read_text(encoding="utf-8"))


# ---- AES-128-GCM (FIPS 197, NIST SP 800-38D): slow, and for vectors alone ----------------------

def _times_two(byte):
    return (byte << 1 ^ (0x11b if byte & 0x80 else 0)) & 0xff


def _sbox():
    table, p, q = [0] * 256, 1, 1
    while True:
        p ^= _times_two(p)
        for shift in (1, 2, 4):
            q ^= q << shift & 0xff
        if q & 0x80:
            q ^= 0x09
        rotated = (q << n | q >> (8 - n) for n in (0, 1, 2, 3, 4))
        value = 0x63
        for part in rotated:
            value ^= part & 0xff
        table[p] = value
        if p == 1:
            break
    table[0] = 0x63
    return table


SBOX = _sbox()


def _round_keys(key):
    words = [list(key[at:at + 4]) for at in range(0, 16, 4)]
    constant = 1
    for at in range(4, 44):
        word = list(words[at - 1])
        if at % 4 == 0:
            word = [SBOX[byte] for byte in word[1:] + word[:1]]
            word[0] ^= constant
            constant = _times_two(constant)
        words.append([a ^ b for a, b in zip(words[at - 4], word)])
    return [sum(words[at:at + 4], []) for at in range(0, 44, 4)]


def aes(key, block):
    keys = _round_keys(key)
    state = [a ^ b for a, b in zip(block, keys[0])]
    for number in range(1, 11):
        state = [SBOX[byte] for byte in state]
        state = [state[(at + 4 * (at % 4)) % 16] for at in range(16)]
        if number < 10:
            mixed = []
            for at in range(0, 16, 4):
                column = state[at:at + 4]
                whole = column[0] ^ column[1] ^ column[2] ^ column[3]
                mixed += [column[row] ^ whole ^ _times_two(column[row] ^ column[(row + 1) % 4])
                          for row in range(4)]
            state = mixed
        state = [a ^ b for a, b in zip(state, keys[number])]
    return bytes(state)


def _ghash_times(x, y):
    product = 0
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            product ^= y
        y = y >> 1 ^ (0xe1 << 120 if y & 1 else 0)
    return product


def _ghash(h, aad, data):
    padded = b"".join(part + bytes(-len(part) % 16) for part in (aad, data))
    padded += (len(aad) * 8).to_bytes(8, "big") + (len(data) * 8).to_bytes(8, "big")
    found = 0
    for at in range(0, len(padded), 16):
        found = _ghash_times(found ^ int.from_bytes(padded[at:at + 16], "big"), h)
    return found.to_bytes(16, "big")


def _stream(key, nonce, data):
    out = b""
    for at in range(0, len(data), 16):
        pad = aes(key, nonce + (at // 16 + 2).to_bytes(4, "big"))
        out += bytes(a ^ b for a, b in zip(data[at:at + 16], pad))
    return out


def _tag(key, nonce, aad, data):
    h = int.from_bytes(aes(key, bytes(16)), "big")
    mask = aes(key, nonce + (1).to_bytes(4, "big"))
    return bytes(a ^ b for a, b in zip(_ghash(h, aad, data), mask))


def gcm_seal(key, nonce, aad, plain):
    data = _stream(key, nonce, plain)
    return data + _tag(key, nonce, aad, data)


def gcm_open(key, nonce, aad, sealed):
    if len(sealed) < 16:
        return None
    data, tag = sealed[:-16], sealed[-16:]
    return _stream(key, nonce, data) if _tag(key, nonce, aad, data) == tag else None


# ---- SFrame, cipher suite 4 (RFC 9605 4.3, 4.4) -------------------------------------------------

def _expand(secret, label, length):
    return hmac.new(secret, label + b"\x01", hashlib.sha256).digest()[:length]


def sframe_keys(base_key, epoch):
    secret = hmac.new(bytes(32), base_key, hashlib.sha256).digest()
    end = epoch.to_bytes(8, "big") + (4).to_bytes(2, "big")
    return (_expand(secret, b"SFrame 1.0 Secret key " + end, 16),
            _expand(secret, b"SFrame 1.0 Secret salt " + end, 12))


def _number(value):
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def header(epoch, counter):
    config, fields = 0, b""
    for value, shift in ((epoch, 4), (counter, 0)):
        if value < 8:
            config |= value << shift
        else:
            config |= (8 | len(_number(value)) - 1) << shift
            fields += _number(value)
    return bytes([config]) + fields


def read_header(data):
    """Epoch, counter, length; None where it is cut."""
    if not data:
        return None
    values, at = [], 1
    for shift in (4, 0):
        nibble = data[0] >> shift & 15
        if nibble < 8:
            values.append(nibble)
            continue
        field = data[at:at + nibble - 7]
        if len(field) < nibble - 7:
            return None
        values.append(int.from_bytes(field, "big"))
        at += nibble - 7
    return values[0], values[1], at


def crypt(function, base_key, epoch, counter, head, metadata, data):
    key, salt = sframe_keys(base_key, epoch)
    nonce = bytes(a ^ b for a, b in zip(salt, counter.to_bytes(12, "big")))
    return function(key, nonce, head + metadata, data)


# ---- what this protocol makes of it (media 4) ---------------------------------------------------

def clear_length(codec, frame):
    if codec == "audio/opus":
        return 1
    return 10 if frame[0] & 1 == 0 else 3


def metadata_of(codec, frame):
    return bytes([CODECS[codec]]) + frame[:clear_length(codec, frame)]


def seal(codec, epoch, counter, base_key, frame):
    length, head = clear_length(codec, frame), header(epoch, counter)
    sealed = crypt(gcm_seal, base_key, epoch, counter, head, metadata_of(codec, frame),
                   frame[length:])
    return frame[:length] + head + sealed


def grant_of(data):
    """Epoch and key; None where it is no grant."""
    return (int.from_bytes(data[:8], "big"), data[8:]) if len(data) == 24 else None


class Opener:
    def __init__(self, grants):
        self.keys, self.newest, self.seen = {}, None, set()
        for epoch, key in grants:
            self.keys[epoch], self.newest = key, epoch

    def open(self, codec, sealed):
        """The frame, or why it does not open."""
        if not sealed:
            return "Malformed"
        length = 1 if codec == "audio/opus" else clear_length("video/VP8", sealed)
        if codec not in CODECS:
            return "Codec"
        if len(sealed) < length:
            return "Malformed"
        clear, rest = sealed[:length], sealed[length:]
        read = read_header(rest)
        if read is None:
            return "Malformed"
        epoch, counter, size = read
        if rest[:size] != header(epoch, counter):
            return "NotShortest"
        if counter >= COUNTERS:
            return "Counter"
        if epoch not in self.keys:
            passed = self.newest is not None and self.newest > epoch + BEHIND
            return "TooLate" if passed else "NoKey"
        if (epoch, counter) in self.seen:
            return "Repeated"
        opened = crypt(gcm_open, self.keys[epoch], epoch, counter, rest[:size],
                       metadata_of(codec, clear), rest[size:])
        if opened is None:
            return "Forged"
        self.seen.add((epoch, counter))
        return clear + opened


def epoch_key(secret, epoch):
    return bip340.tagged_hash("streampay/seal/v1", secret + epoch.to_bytes(8, "big"))[:16]


def check_rfc(report):
    """RFC 9605, appendix C.3, of this cipher suite."""
    base_key = bytes(range(16))
    key, salt = sframe_keys(base_key, 0x123)
    report.case("RFC 9605 key", "d34f547f4ca4f9a7447006fe7fcbf768", key.hex)
    report.case("RFC 9605 salt", "75234edefe07819026751816", salt.hex)
    head = header(0x123, 0x4567)
    plain, metadata = b"draft-ietf-sframe-enc", b"IETF SFrame WG"
    sealed = "9901234567b7412c2513a1b66dbb48841bbaf17f598751176ad847681a69c6d0b091c07018ce4adb34eb"
    report.case("RFC 9605 sealed", sealed, lambda: (
        head + crypt(gcm_seal, base_key, 0x123, 0x4567, head, metadata, plain)).hex())


def check_grants(report, file):
    for case in file["times"]:
        epoch = int(case["ms"]) // int(file["epoch_ms"])
        report.case(f"epoch at {case['ms']} ms", case["epoch"], lambda: str(epoch))
    for case in file["valid"]:
        name, epoch = f"grant `{case['name']}`", int(case["epoch"])
        secret = bytes.fromhex(case["stream_secret"])
        report.case(f"{name} key", case["key"], lambda: epoch_key(secret, epoch).hex())
        read = (epoch, bytes.fromhex(case["key"]))
        report.case(name, read, lambda: grant_of(bytes.fromhex(case["grant"])))
    for case in file["invalid"]:
        name = f"grant invalid `{case['name']}`"
        report.case(name, None, lambda: grant_of(bytes.fromhex(case["grant"])))


def check_frames(report, file):
    for case in file["valid"]:
        name, frame = f"sealed `{case['name']}`", bytes.fromhex(case["frame"])
        codec, key = case["codec"], bytes.fromhex(case["base_key"])
        epoch, counter = int(case["epoch"]), int(case["counter"])
        report.case(f"{name} metadata", case["metadata"],
                    lambda: metadata_of(codec, frame).hex())
        report.case(name, case["sealed"], lambda: seal(codec, epoch, counter, key, frame).hex())
        opener = Opener([(epoch, key)])
        report.case(f"{name} opened", frame,
                    lambda: opener.open(codec, bytes.fromhex(case["sealed"])))
    for case in file["invalid"]:
        opener = Opener(grant_of(bytes.fromhex(grant)) for grant in case["grants"])
        if case["opened_before"]:
            opener.open(case["codec"], bytes.fromhex(case["opened_before"]))
        report.case(f"sealed invalid `{case['name']}`", case["error"],
                    lambda: opener.open(case["codec"], bytes.fromhex(case["sealed"])))


def check_stream(report, file):
    secret, frames = bytes.fromhex(file["stream_secret"]), {}
    for at, case in enumerate(file["frames"]):
        codec, epoch = case["codec"], int(case["ms"]) // 50
        number = frames.get((codec, epoch), 0)
        frames[codec, epoch] = number + 1
        counter = 2 * number + (codec == "audio/opus")
        key = epoch_key(secret, epoch)
        report.case(f"stream frame {at}", case["sealed"],
                    lambda: seal(codec, epoch, counter, key, bytes.fromhex(case["frame"])).hex())


def check(report):
    check_rfc(report)
    check_grants(report, load("grants.json"))
    check_frames(report, load("frames.json"))
    check_stream(report, load("stream.json"))
    meters.check(report, load("meters.json"))
    meters.check_gate(report, load("gate.json"))
    signalling.check_http(report, load("http.json"))
    signalling.check_channel(report, load("channel.json"))
