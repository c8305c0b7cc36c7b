"""Checks what `streamer demo --json` wrote: check_demo.py LOG LEAST_MEDIA_MS WAY.

The sums must balance to the millisatoshi, fees and refund must have happened, and ffprobe must
find the frames in the recording: a decoder that is not ours. Ticks by `chain`, `p2pk` and `btc` ask the
mint nothing, those by `swap` do.
"""

import json
import os
import subprocess
import sys

FRAMES_PER_S = 25


def check(holds, what):
    if not holds:
        sys.exit(f"demo: {what}")


def frames(path):
    found = subprocess.run(
        ["ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0"]
        + ["-show_entries", "stream=nb_read_frames", "-of", "csv=p=0", path],
        check=True,
        capture_output=True,
        text=True,
    )
    return int(found.stdout.strip().strip(","))


def main(log, least_media_ms, way):
    with open(log, encoding="utf-8") as lines:
        events = [json.loads(line) for line in lines if line.strip()]
    check(events, "no line on stdout")
    check(all("event" in event for event in events), "a line without an event")
    summary = events[-1]
    check(summary["event"] == "summary", f"the last line is {summary['event']}")
    keys = ["paid_msat", "settled_msat", "fees_msat", "refunded_msat", "ticks", "media_ms"]
    for key in keys:
        value = summary.get(key)
        check(isinstance(value, int) and value >= 0, f"{key} is {value!r}")
    paid, settled, fees, refunded, ticks, media_ms = (summary[key] for key in keys)
    check(
        paid == settled + fees + refunded,
        f"{paid} paid, {settled} settled + {fees} fees + {refunded} refunded",
    )
    check(settled > 0, "nothing settled")
    check(fees > 0, "no fees: a mint with an input fee, or miners, were expected")
    check(refunded > 0, "nothing refunded")
    check(ticks > 0, "no ticks")
    check(media_ms >= least_media_ms, f"only {media_ms} of {least_media_ms} ms of media")
    method = "btc-cltv" if way == "btc" else f"cashu-{way}"
    check(summary.get("pay") == method, f"paid by {summary.get('pay')!r}, not by {method}")
    if way == "btc":
        # One channel: its funding and its close, of the sizes in spec/07-bitcoin.md, 5.3.
        txids, size = summary.get("txids"), summary.get("close_vbytes")
        check(len(set(txids)) == 2, f"the transactions are {txids!r}")
        check(all(len(bytes.fromhex(txid)) == 32 for txid in txids), f"no ids: {txids!r}")
        check(120 <= size <= 199, f"closing took {size} vB")
    calls = summary.get("mint_calls")
    check(isinstance(calls, int), f"mint_calls is {calls!r}")
    check((calls > 0) == (way == "swap"), f"{ticks} ticks by {way} caused {calls} requests")
    recording = summary["recording"]
    check(recording and os.path.isfile(recording), f"no recording at {recording!r}")
    expected = media_ms * FRAMES_PER_S // 1000
    found = frames(recording)
    check(found * 10 >= expected * 9, f"{found} of {expected} frames in {recording}")
    print(
        f"demo: {paid} msat paid = {settled} settled + {fees} fees + {refunded} refunded; "
        f"{ticks} ticks by {way}, {calls} requests to the mint for them; "
        f"{media_ms} ms, {found} of {expected} frames"
    )


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
