"""Times in Chromium, for streampay-media/RUNS.md: nothing here asserts a figure.

    .ci/clients measure BIN OUT [PAUSES [HOLD_S]]

From a payment to the first decoded picture, on a connection that is open; how far picture and sound
are apart after a hundred pauses; what a session's beginning waits for.
"""

import json
import os
import statistics
import sys
import tempfile
import time

from browser import Browser
from programs import Programs, post, until

CLIP = os.path.join(os.path.dirname(__file__), "../../examples/assets/clip.ivf")
# The shortest span there is, so that a hundred of them end within minutes.
PRICE, SPAN_S = "1sat/s", 1
# How long it plays on without a pause at the end.
STEADY_S = 12

# Every decoded picture's time; what a paid request took.
WATCHING = """
window.decoded = []; window.sent = [];
window.observe = track => {
  const reader = new MediaStreamTrackProcessor({track: track.clone()}).readable.getReader();
  (async () => {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      decoded.push(performance.now());
      value.close();
    }
  })();
};
window.topUp = async (url, token) => {
  const asked = performance.now(), before = decoded.length;
  const answer = await fetch(url, {method: 'POST', headers: {'X-Cashu': token}});
  const answered = performance.now();
  for (let waited = 0; decoded.length === before && waited < 3000; waited += 2)
    await new Promise(done => setTimeout(done, 2));
  return {status: answer.status, answered: answered - asked, picture: decoded[before] - asked};
};
window.apart = async () => {
  const at = {};
  (await pc.getStats()).forEach(it => {
    if (it.type === 'inbound-rtp') at[it.kind] = it.estimatedPlayoutTimestamp;
  });
  return at.video && at.audio ? at.video - at.audio : null;
};
// How long it means to wait with what comes, in seconds, summed over so many pictures or samples.
window.waits = async () => {
  const at = {};
  (await pc.getStats()).forEach(it => {
    if (it.type === 'inbound-rtp') at[it.kind] = [it.jitterBufferTargetDelay, it.jitterBufferEmittedCount];
  });
  return at;
};
"""


def figures(values):
    values = sorted(values)
    nth = lambda part: values[min(len(values) - 1, int(len(values) * part))]
    return (f"median {statistics.median(values):.0f}, p90 {nth(0.9):.0f}, "
            f"least {values[0]:.0f}, most {values[-1]:.0f} ms of {len(values)}")


def after_pauses(programs, mint, browser, pauses, hold_s):
    """Each span that is used up is a pause, each payment a resumption."""
    streamer, link = programs.serve_from("streamer-spans", mint, PRICE, "--media", CLIP)
    url, tab = link.split("#")[0], browser.open()
    tab.run(WATCHING + "0")
    status, headers, _ = post(url, tab.run("""(async () => {
      window.probe = new RTCPeerConnection();
      for (const kind of ['video', 'audio']) probe.addTransceiver(kind, {direction: 'recvonly'});
      await probe.setLocalDescription(await probe.createOffer()); await whole(probe);
      const sdp = probe.localDescription.sdp; probe.close(); return sdp;
    })()"""), {})
    assert status == 402, status
    demand = headers["X-Cashu"]
    tokens = [programs.token(mint, demand) for _ in range(pauses + 1)]
    steady = [programs.token(mint, demand) for _ in range(STEADY_S)]
    answer = tab.do("watch", url, tokens.pop())
    assert answer["status"] == 201, answer
    tab.run("observe(pc.getReceivers().find(it => it.track.kind === 'video').track)")
    until("a picture", lambda: tab.run("decoded.length") > 0)
    answers, pictures, apart, waits = [], [], [], []
    at = answer["location"]
    while tokens:
        # The span is used up and what was under way is there; so long it is late.
        time.sleep(SPAN_S + hold_s)
        said = tab.do("topUp", at, tokens.pop())
        assert said["status"] == 204, said
        assert said["picture"] is not None, "no picture for a payment"
        answers.append(said["answered"])
        pictures.append(said["picture"])
        apart.append(tab.run("apart()"))
        waits.append(tab.run("waits()"))
    known = [abs(it) for it in apart if it is not None]
    print(f"paid request to its answer: {figures(answers)}")
    print(f"paid request to the first decoded picture: {figures(pictures)}")
    print(f"answer to the first decoded picture: "
          f"{figures([p - a for p, a in zip(pictures, answers)])}")
    for kind in ("video", "audio"):
        means = [it[kind] for it in waits]
        means = [(b[0] - a[0]) / (b[1] - a[1]) * 1000 for a, b in zip(means, means[1:]) if b[1] > a[1]]
        print(f"how long Chromium means to wait with its {kind}, from pause to pause: {figures(means)}")
    for token in steady:
        assert tab.do("topUp", at, token)["status"] == 204
    later = []
    for _ in range(STEADY_S - 2):
        time.sleep(0.8)
        later.append(tab.run("apart()"))
    stats = tab.stats()
    print(f"picture and sound apart, as Chromium estimates what it plays, right after each of {pauses} "
          f"pauses of {hold_s} s: {figures(known)}")
    print(f"the same every 0.8 s after the last one: {[round(it) for it in later if it is not None]} ms")
    print(f"NACKs {stats['nacks']}, lost {stats['lost']}")
    tab.run("pc.close()")
    streamer.stop()


# When what went over the page's data channel.
SPYING = WATCHING + """
window.said = [];
window.spy = () => {
  const send = channel.send.bind(channel), heard = channel.onmessage;
  channel.send = data => { said.push(['up', data.byteLength, performance.now()]); send(data); };
  channel.onmessage = event => { said.push(['down', event.data.byteLength, performance.now()]); heard(event); };
};
window.begin = async () => {
  await join(); spy();
  observe(pc.getReceivers().find(it => it.track.kind === 'video').track);
  // The connection has stood open, unpaid.
  await new Promise(done => setTimeout(done, 500));
  const paid = performance.now();
  pay();
  for (let waited = 0; decoded.length === 0 && waited < 15000; waited += 2)
    await new Promise(done => setTimeout(done, 2));
  return {picture: decoded[0] - paid, said: said.map(([way, size, at]) => [way, size, Math.round((at - paid) * 10) / 10]).filter(it => it[2] < decoded[0] - paid + 1)};
};
"""


def beginnings(programs, mint, browser, times=5):
    """A session's first picture, and every message before it."""
    pictures, from_tick, from_ack = [], [], []
    for at in range(times):
        streamer, link = programs.serve_from(f"streamer-page-{at}", mint, "2sat/2s", "--media", CLIP)
        budget = ("--budget", "8sat", "--yes", "--json", "--browser")
        viewer = programs.start(
            f"viewer-page-{at}", programs.path("viewer"), "--data", programs.data("viewer"),
            "watch", link, *budget,
        )
        tab = browser.open(viewer.event("page")["url"], "join")
        tab.run(SPYING + "0")
        said = tab.run("begin()")
        pictures.append(said["picture"])
        ups = [it for it in said["said"] if it[0] == "up"]
        downs = [it for it in said["said"] if it[0] == "down"]
        from_tick.append(said["picture"] - ups[-1][2])
        from_ack.append(said["picture"] - downs[-1][2])
        print(json.dumps(said))
        viewer.stop()
        tab.run("pc.close()")
        streamer.stop()
    print(f"session begun to the first decoded picture: {figures(pictures)}")
    print(f"last message up (the payment) to it: {figures(from_tick)}")
    print(f"last message down to it: {figures(from_ack)}")


def main():
    bin_folder, out = map(os.path.abspath, sys.argv[1:3])
    pauses = int(sys.argv[3]) if len(sys.argv) > 3 else 100
    hold_s = float(sys.argv[4]) if len(sys.argv) > 4 else 1.0
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        programs, browser = Programs(bin_folder, out, folder), None
        try:
            browser = Browser(os.path.join(folder, "chromium"), out)
            mint = programs.mint()
            programs.viewer("deposit", "400sat", "--mint", mint)
            beginnings(programs, mint, browser)
            after_pauses(programs, mint, browser, pauses, hold_s)
        finally:
            programs.stop()
            if browser:
                browser.stop()


main()
