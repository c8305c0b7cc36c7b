"""BIP 340 signatures over secp256k1: readable, not constant-time. Never for real keys."""

import hashlib

P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
     0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8)


def tagged_hash(tag, data):
    prefix = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(prefix + prefix + data).digest()


def public_key(secret):
    return _times(G, int.from_bytes(secret, "big"))[0].to_bytes(32, "big")


def sign(secret, digest, aux):
    key = int.from_bytes(secret, "big")
    point = _times(G, key)
    if point[1] % 2:
        key = N - key
    mask = int.from_bytes(tagged_hash("BIP0340/aux", aux), "big")
    seed = (key ^ mask).to_bytes(32, "big") + point[0].to_bytes(32, "big") + digest
    nonce = int.from_bytes(tagged_hash("BIP0340/nonce", seed), "big") % N
    commitment = _times(G, nonce)
    if commitment[1] % 2:
        nonce = N - nonce
    r = commitment[0].to_bytes(32, "big")
    e = _challenge(r, point[0].to_bytes(32, "big"), digest)
    return r + ((nonce + e * key) % N).to_bytes(32, "big")


def verify(key, digest, signature):
    point = _lift_x(int.from_bytes(key, "big"))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if point is None or r >= P or s >= N:
        return False
    e = _challenge(signature[:32], key, digest)
    found = _plus(_times(G, s), _times(point, N - e))
    return found is not None and found[1] % 2 == 0 and found[0] == r


def _challenge(r, key, digest):
    return int.from_bytes(tagged_hash("BIP0340/challenge", r + key + digest), "big") % N


def _lift_x(x):
    if x >= P:
        return None
    square = (pow(x, 3, P) + 7) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        return None
    return x, y if y % 2 == 0 else P - y


def _plus(a, b):
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0] and a[1] != b[1]:
        return None
    return _affine(_add((a[0], a[1], 1), b) if a != b else _double((a[0], a[1], 1)))


def _times(point, factor):
    """In Jacobian coordinates, so that there is one inversion in the end."""
    total = None
    for bit in bin(factor % N)[2:]:
        total = _double(total) if total else None
        if bit == "1":
            total = _add(total, point) if total else (point[0], point[1], 1)
    return _affine(total)


def _affine(point):
    if point is None or point[2] == 0:
        return None
    inverse = pow(point[2], P - 2, P)
    square = inverse * inverse % P
    return point[0] * square % P, point[1] * square * inverse % P


def _double(point):
    x, y, z = point
    yy = y * y % P
    s = 4 * x * yy % P
    m = 3 * x * x % P
    nx = (m * m - 2 * s) % P
    return nx, (m * (s - nx) - 8 * yy * yy) % P, 2 * y * z % P


def _add(point, other):
    """A Jacobian point and an affine one."""
    x, y, z = point
    if z == 0:
        return other[0], other[1], 1
    zz = z * z % P
    u, s = other[0] * zz % P, other[1] * zz * z % P
    h, r = (u - x) % P, (s - y) % P
    if h == 0:
        return _double(point) if r == 0 else (1, 1, 0)
    hh = h * h % P
    hhh, v = h * hh % P, x * hh % P
    nx = (r * r - hhh - 2 * v) % P
    return nx, (r * (v - nx) - y * hhh) % P, z * h % P
