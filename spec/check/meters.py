"""Both meters and the gate, after media 2 to 4: intervals of the source's time, and what a receiver reads off RTP."""

RATES = {"video": (100, 9), "audio": (125, 6)}
PER_MS = {"video": 90, "audio": 48}


def us(kind, ticks):
    times, by = RATES[kind]
    return ticks * times // by


class Union:
    def __init__(self):
        self.parts = []

    def add(self, begin, end):
        if end <= begin:
            return
        apart = [part for part in self.parts if part[1] < begin or part[0] > end]
        met = [part for part in self.parts if part not in apart]
        self.parts = apart + [(min([begin] + [part[0] for part in met]),
                               max([end] + [part[1] for part in met]))]

    def length(self):
        return sum(end - begin for begin, end in self.parts)


class Meter:
    def __init__(self, base):
        self.base, self.union, self.bytes = base, Union(), 0

    def reading(self):
        return {"media_ms": str(int(self.base["media_ms"]) + self.union.length() // 1000),
                "bytes": str(int(self.base["bytes"]) + self.bytes)}


class Payee(Meter):
    def packet(self, case):
        ticks, span = int(case["ticks"]), int(case["span"])
        self.union.add(us(case["kind"], ticks), us(case["kind"], ticks + span))
        self.bytes += int(case["bytes"])
        return None


def opus_ticks(packet):
    """RFC 6716 3.1: none where it is no packet, or longer than 120 ms."""
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config % 4]
    elif config < 16:
        frame = (480, 960)[config % 2]
    else:
        frame = (120, 240, 480, 960)[config % 4]
    if code == 3 and len(packet) < 2:
        return None
    ticks = frame * (1, 2, 2, packet[1] & 63 if code == 3 else 0)[code]
    return ticks if 0 < ticks <= 5760 else None


def unwrap(near, low, modulus):
    candidate = near - near % modulus + low
    options = (candidate - modulus, candidate, candidate + modulus)
    return min(options, key=lambda value: abs(value - near))


class Kind:
    def __init__(self):
        self.offset = self.seq = self.ticks = None
        self.span = self.before = 0
        self.seen = set()


class Payer(Meter):
    def __init__(self, base):
        super().__init__(base)
        self.kinds = {"video": Kind(), "audio": Kind()}

    def position(self, name, ticks):
        return us(name, ticks) + self.kinds[name].offset

    def begin(self, name, stamp):
        other_name = "audio" if name == "video" else "video"
        other, own = self.kinds[other_name], us(name, stamp)
        self.kinds[name].offset = 0
        if other.offset is not None:
            there = self.position(other_name, other.ticks)
            if abs(there - own) > 10_000_000:
                self.kinds[name].offset = there - own

    def packet(self, case):
        name, payload = case["kind"], bytes.fromhex(case["payload"])
        if not payload:
            return False
        kind, stamp, low = self.kinds[name], int(case["stamp"]), int(case["seq"])
        if kind.offset is None:
            self.begin(name, stamp)
        ticks = stamp if kind.ticks is None else unwrap(kind.ticks, stamp, 2**32)
        seq = low + 2**16 if kind.seq is None else unwrap(kind.seq, low, 2**16)
        if seq in kind.seen or kind.seq is not None and seq + 1024 <= kind.seq:
            return False
        kind.seen.add(seq)
        if name == "audio" and opus_ticks(payload):
            kind.span = opus_ticks(payload)
        if kind.seq is not None and seq > kind.seq:
            self.since(name, kind, ticks, seq - kind.seq - 1)
        if kind.seq is None or seq > kind.seq:
            kind.seq, kind.ticks = seq, max(ticks, kind.ticks or 0)
        self.union.add(self.position(name, ticks), self.position(name, ticks + kind.span))
        self.bytes += len(payload)
        return True

    def since(self, name, kind, ticks, missing):
        """Learns the span of pictures, and counts the time since the last frame where it counts."""
        step, per_ms = ticks - kind.ticks, PER_MS[name]
        if step <= 0:
            return
        whole = missing == 0 and step <= 500 * per_ms and name == "video"
        if whole:
            kind.span, kind.before = min(step, kind.before), step
        lost = missing > 0 and step <= min(kind.span * (missing + 1), 2000 * per_ms)
        if whole or lost:
            self.union.add(self.position(name, kind.ticks), self.position(name, ticks))


EPOCH_US = 50_000


class Gate:
    """Media 3, and 4.3 where media is sealed; 1 msat a millisecond."""

    def __init__(self, case):
        self.meter = Payee({"media_ms": case["base_ms"], "bytes": "0"})
        self.sealed, self.limit, self.dead = case["sealed"], None, False
        self.need_key, self.left = True, set()
        self.ms_cost, self.bytes_per_msat = 1, None

    def told(self, step):
        if "open" in step:
            self.ms_cost = 0 if step.get("time_is_free") else 1
            self.bytes_per_msat = int(step["bytes_per_msat"]) if "bytes_per_msat" in step else None
            # What an epoch comes to in bytes is not known: sealed, nothing passes.
            shut = self.sealed and self.bytes_per_msat
            self.limit = None if shut else int(step["open"])
        elif "left_out" in step:
            self.need_key = True
        else:
            self.limit, self.dead = None, self.dead or "session_gone" in step

    def price(self, ms, count):
        """Both meters together, rounded up once."""
        if self.bytes_per_msat is None:
            return ms * self.ms_cost
        return ms * self.ms_cost + -(-count // self.bytes_per_msat)

    def offer(self, packet):
        """The verdict, and the epoch whose key leaves."""
        kind, ticks = packet["kind"], int(packet["ticks"])
        if self.dead:
            return "dead", None
        if self.limit is None:
            return "hold", None
        if kind == "video" and self.need_key and not packet["key_start"]:
            return "skip", None
        begin, end = us(kind, ticks), us(kind, ticks + int(packet["span"]))
        epoch, fresh = begin // EPOCH_US, None
        if self.sealed and epoch not in self.left:
            fresh = str(epoch)
            begin, end = epoch * EPOCH_US, max(end, (epoch + 1) * EPOCH_US)
        after = Union()
        after.parts = list(self.meter.union.parts)
        after.add(begin, end)
        ms = int(self.meter.base["media_ms"]) + after.length() // 1000
        if self.price(ms, self.meter.bytes + int(packet["bytes"])) > self.limit:
            return "hold", None
        self.meter.union, self.meter.bytes = after, self.meter.bytes + int(packet["bytes"])
        self.left.add(epoch)
        self.need_key = self.need_key and kind != "video"
        return "pass", fresh


def check_gate(report, file):
    for case in file["cases"]:
        gate = Gate(case)
        for at, step in enumerate(case["steps"]):
            if "packet" not in step:
                gate.told(step)
                continue
            name = f"gate `{case['name']}` step {at}"
            found = gate.offer(step["packet"])
            report.case(name, (step["verdict"], step["key_of_epoch"]), lambda: found)
            report.case(f"{name} reading", step["reading"], gate.meter.reading)


def check(report, file):
    for case in file["cases"]:
        meter = {"payee": Payee, "payer": Payer}[case["side"]](case["base"])
        for at, packet in enumerate(case["packets"]):
            name = f"{case['side']}'s meter `{case['name']}` packet {at}"
            counted = meter.packet(packet)
            report.case(name, packet["reading"], meter.reading)
            if "counted" in packet:
                report.case(f"{name} counted", packet["counted"], lambda: counted)
