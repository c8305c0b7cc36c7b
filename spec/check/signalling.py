"""Checks `vectors/media/http.json` and `channel.json`: what each request must be answered, from the
rules of transports 2 and 4 and media 5 and 6 alone; NUT-18 requests and NUT-00 tokens; RFC 8832.
"""

import base64

SDP, PIECE = "application/sdp", "application/trickle-ice-sdpfrag"
BODY_MAX, CANDIDATES_MAX, SECTIONS_MAX = 65_536, 32, 16
TAKEN = {"vp8", "vp9", "h264", "av1", "opus"}
TURNED = {"recvonly": "sendonly", "sendonly": "recvonly", None: None}


# ---- CBOR as Cashu's texts have it (RFC 8949) ---------------------------------------------------

def _item(data, at):
    major, small = data[at] >> 5, data[at] & 31
    at += 1
    if small >= 24 and major != 7:
        length = 1 << small - 24
        small, at = int.from_bytes(data[at:at + length], "big"), at + length
    if major == 0:
        return small, at
    if major in (2, 3):
        text = data[at:at + small]
        return (text if major == 2 else text.decode()), at + small
    if major == 4:
        found = []
        for _ in range(small):
            value, at = _item(data, at)
            found.append(value)
        return found, at
    if major == 5:
        found = {}
        for _ in range(small):
            key, at = _item(data, at)
            found[key], at = _item(data, at)
        return found, at
    return {20: False, 21: True}[small], at


def _text(text, prefix):
    assert text.startswith(prefix), text
    data = base64.urlsafe_b64decode(text[len(prefix):] + "=" * (-len(text[len(prefix):]) % 4))
    value, end = _item(data, 0)
    assert end == len(data)
    return value


def check_money(report, file):
    demand = file["demand"]
    asked = _text(demand["header"], "creqA")
    # No transport: the token comes with the next request.
    said = {"a": int(demand["amount"]), "u": demand["unit"], "m": demand["mints"], "s": True}
    report.case("402 demand", said, lambda: {key: asked[key] for key in asked if key != "i"})
    for at, text in enumerate(file["tokens"]):
        token = _text(text, "cashuB")
        proofs = [proof for keyset in token["t"] for proof in keyset["p"]]
        report.case(f"402 token {at}", (demand["mints"], demand["unit"], int(demand["amount"])),
                    lambda: ([token["m"]], token["u"], sum(proof["a"] for proof in proofs)))
        report.case(f"402 token {at} proofs", True,
                    lambda: all(set(proof["d"]) == {"e", "s", "r"} for proof in proofs))


# ---- requests -----------------------------------------------------------------------------------

def _sections(sdp):
    found = []
    for section in sdp.split("\nm=")[1:]:
        lines = [line.rstrip("\r") for line in section.split("\n")]
        mids = [line[6:] for line in lines if line.startswith("a=mid:")]
        ways = [line[2:] for line in lines if line[2:] in ("recvonly", "sendonly")]
        maps = [line.split(" ")[1] for line in lines if line.startswith("a=rtpmap:")]
        found.append((lines[0].split(" ")[0], mids[0], ways[0] if ways else None, maps))
    return found


def _names(maps):
    return {name.split("/")[0].lower() for name in maps}


def _is_description(sdp):
    count = sum(line.startswith("a=candidate") for line in sdp.split("\n"))
    return sdp.startswith("v=0") and count <= CANDIDATES_MAX and sdp.count("\nm=") <= SECTIONS_MAX


class Server:
    def __init__(self, scene, file):
        self.config, self.file = scene["server"], file
        self.offers, self.strangers, self.kind, self.sections = 0, 0, None, None
        self.tokens = set()

    def limit(self, name, default):
        return int(self.config.get(name, default))

    def answer(self, request):
        """The status, and what the headers must say."""
        method, path = request["method"], request["path"]
        headers = {name.lower(): value for name, value in request["headers"].items()}
        body = request["body"]
        text = self.file["offers"][body["offer"]] if "offer" in body else body["text"]
        if isinstance(text, dict):
            text = text["repeat"] * int(text["times"])
        if method == "OPTIONS":
            return 204, {"accept-post": SDP, "accept-patch": PIECE}
        if path in ("/whip", "/whep"):
            if method != "POST":
                return 405, {"allow": "POST, OPTIONS"}
            ask = self.publish if path == "/whip" else self.watch
            return ask(headers, text)
        if method not in ("POST", "PATCH", "DELETE"):
            # Where more can be paid, it is paid by POST.
            more = "POST, " if self.config.get("paywall") else ""
            return 405, {"allow": more + "PATCH, DELETE, OPTIONS"}
        if path != "{session}" or self.kind is None:
            return 404, {}
        if method == "DELETE":
            self.kind = None
            return 200, {}
        return self.patch(headers, text) if method == "PATCH" else self.pay(headers)

    def body(self, headers, text, kind):
        if headers.get("content-type") != kind:
            return 415
        return 413 if len(text) > BODY_MAX else None

    def accept(self, kind, sdp, codecs):
        """A section is answered the other way round; without a codec in common nothing flows in it."""
        self.kind = kind
        self.sections = [(media, mid, TURNED[way] if _names(maps) & codecs else None)
                         for media, mid, way, maps in _sections(sdp)]
        return 201, {"content-type": SDP, "location": "{base}/%s/{32 hex digits}" % kind,
                     "etag": "{etag}", "accept-patch": PIECE}

    def publish(self, headers, sdp):
        if headers.get("authorization") != "Bearer " + self.file["stream_key"]:
            return 401, {"www-authenticate": "Bearer"}
        wrong = self.body(headers, sdp, SDP)
        if wrong:
            return wrong, {}
        if not _is_description(sdp):
            return 400, {}
        known = any(_names(maps) & TAKEN for _, _, _, maps in _sections(sdp))
        return self.accept("whip", sdp, TAKEN) if known else (406, {})

    def watch(self, headers, sdp):
        self.offers += 1
        if self.offers > self.limit("offers_per_minute", 60):
            return 429, {"retry-after": "5"}
        wrong = self.body(headers, sdp, SDP)
        if wrong:
            return wrong, {}
        channel, token = "webrtc-datachannel" in sdp, None
        demand = {"x-cashu": self.file["demand"]["header"]}
        if self.config["paywall"] and not channel:
            token = headers.get("x-cashu")
            if token is None:
                return 402, demand
            if not token:
                return 400, {}
        if self.strangers >= self.limit("strangers_per_address", 8):
            return 429, {"retry-after": "5"}
        if not _is_description(sdp):
            return 400, {}
        if not channel and not self.config["paywall"]:
            return 402, {}
        if not self.config["codecs"]:
            return 503, {"retry-after": "5"}
        codecs = {codec.lower() for codec in self.config["codecs"]}
        if not any(_names(maps) & codecs for _, _, _, maps in _sections(sdp)):
            return 406, {}
        if token is not None and token not in self.tokens:
            refused = self.take(token)
            if refused:
                return refused
        self.strangers += token is None
        return self.accept("whep", sdp, codecs)

    def take(self, token):
        if token == "away":
            return 503, {"retry-after": "5"}
        if token not in self.file["tokens"] or token in self.tokens:
            return 400, {}
        self.tokens.add(token)
        return None

    def pay(self, headers):
        if "x-cashu" not in headers:
            return 402, {"x-cashu": self.file["demand"]["header"]}
        return self.take(headers["x-cashu"]) or (204, {})

    def patch(self, headers, piece):
        if "if-match" not in headers:
            return 428, {}
        if headers["if-match"] not in ("*", "{etag}"):
            return 412, {}
        wrong = self.body(headers, piece, PIECE)
        if wrong:
            return wrong, {}
        lines = piece.split("\r\n")[:-1]
        if not lines or any(line[1:2] != "=" for line in lines):
            return 400, {}
        users = [line for line in lines if line.startswith("a=ice-ufrag:")]
        return (204, {}) if users in ([], ["a=ice-ufrag:abcd"]) else (422, {})


def check_http(report, file):
    check_money(report, file)
    for scene in file["scenes"]:
        server = Server(scene, file)
        for at, exchange in enumerate(scene["exchanges"]):
            request, answer = exchange["request"], exchange["answer"]
            name = f"http {scene['name']} {at} {request['method']} {request['path']}"
            status, headers = server.answer(request)
            report.case(name, int(answer["status"]), lambda: status)
            said = {key: answer["headers"].get(key) for key in headers}
            report.case(f"{name} headers", said, lambda: headers)
            report.case(f"{name} origin", "*",
                        lambda: answer["headers"].get("access-control-allow-origin"))
            if status == 201:
                agreed = [(it["media"], it["mid"], it["direction"] if it["codecs"] else None)
                          for it in answer["sections"]]
                report.case(f"{name} sections", agreed, lambda: server.sections)


def check_channel(report, file):
    for case in file["channels"]:
        label, protocol = case["label"].encode(), case["protocol"].encode()
        kind = 0x00 if case["ordered"] else 0x80
        opened = bytes([3, kind]) + (256).to_bytes(2, "big") + bytes(4)
        opened += len(label).to_bytes(2, "big") + len(protocol).to_bytes(2, "big")
        name = f"channel `{case['label']}` `{case['protocol']}` {case['ordered']}"
        report.case(f"{name} open", case["open"], lambda: (opened + label + protocol).hex())
        ours = (case["label"], case["protocol"], case["ordered"])
        report.case(name, case["taken"], lambda: ours == ("streampay", "streampay/1", True))
    for case in file["messages"]:
        length = int(case["length"])
        report.case(f"message of {length}", case["comes_through"], lambda: length <= 16_384)
