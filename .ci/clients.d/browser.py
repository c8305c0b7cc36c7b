"""Chromium, headless, by its own remote control (Chrome DevTools Protocol)."""

import base64
import http.server
import itertools
import json
import os
import shutil
import subprocess
import threading
import urllib.request

from websockets.sync.client import connect

from programs import until

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --mute-audio --autoplay-policy=no-user-gesture-required "
    "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
).split()

# What a page has received, of the connection `pc` and the picture `v`.
STATS = """async () => {
  const picture = document.querySelector('video').getVideoPlaybackQuality();
  const all = {frames: 0, packets: 0, lost: 0, nacks: 0, plis: 0, firs: 0, keys: 0, codec: '',
    state: pc.connectionState, shown: picture.totalVideoFrames,
    width: document.querySelector('video').videoWidth};
  const report = await pc.getStats();
  report.forEach(it => {
    if (it.type === 'inbound-rtp') {
      all.packets += it.packetsReceived; all.lost += it.packetsLost; all.nacks += it.nackCount || 0;
      if (it.kind === 'video') {
        all.frames = it.framesDecoded || 0;
        const codec = report.get(it.codecId); all.codec = codec ? codec.mimeType : '';
      }
    }
    if (it.type === 'outbound-rtp' && it.kind === 'video') { all.plis = it.pliCount; all.firs = it.firCount; all.keys = it.keyFramesEncoded; all.sent = it.framesSent; }
  });
  return all;
}"""

PAGE = """<!doctype html><title>test</title><video id=v autoplay playsinline muted width=640></video>
<script>
const whole = pc => new Promise(done => {
  const check = () => pc.iceGatheringState === 'complete' && done();
  pc.addEventListener('icegatheringstatechange', check); check();
});
async function exchange(pc, url, headers) {
  await pc.setLocalDescription(await pc.createOffer());
  await whole(pc);
  const answer = await fetch(url, {method: 'POST', body: pc.localDescription.sdp,
    headers: {'Content-Type': 'application/sdp', ...headers}});
  const text = await answer.text();
  if (answer.status === 201)
    await pc.setRemoteDescription({type: 'answer', sdp: text});
  return {status: answer.status, demand: answer.headers.get('X-Cashu'),
    location: answer.headers.get('Location'), text: answer.status === 201 ? '' : text};
}
// With the codec of that name alone, or with all there are.
async function publish(url, key, codec) {
  window.pc = new RTCPeerConnection();
  const media = await navigator.mediaDevices.getUserMedia({audio: true,
    video: {width: 640, height: 360, frameRate: 25}});
  for (const track of media.getTracks())
    pc.addTransceiver(track, {direction: 'sendonly', streams: [media]});
  if (codec) {
    const named = RTCRtpSender.getCapabilities('video').codecs.filter(it => it.mimeType === codec);
    pc.getTransceivers().find(it => it.sender.track.kind === 'video').setCodecPreferences(named);
  }
  return exchange(pc, url, {Authorization: 'Bearer ' + key});
}
async function watch(url, token) {
  if (window.pc) pc.close();
  window.pc = new RTCPeerConnection();
  const media = new MediaStream();
  v.srcObject = media;
  pc.ontrack = event => media.addTrack(event.track);
  for (const kind of ['video', 'audio']) pc.addTransceiver(kind, {direction: 'recvonly'});
  return exchange(pc, url, token ? {'X-Cashu': token} : {});
}
</script>"""


class Page(http.server.BaseHTTPRequestHandler):
    """Serves the test page, on this machine: browsers give cameras to such pages alone."""

    def do_GET(self):
        body = PAGE.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Browser:
    """One Chromium."""

    def __init__(self, folder, out):
        name = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), None)
        assert name, "chromium is not installed"
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.log = open(os.path.join(out, "chromium.log"), "w", encoding="utf-8")
        flags = [*FLAGS, "--remote-debugging-port=0", f"--user-data-dir={folder}"]
        self.process = subprocess.Popen(
            [name, *flags, "about:blank"], stdout=self.log, stderr=self.log
        )
        port_file = os.path.join(folder, "DevToolsActivePort")

        def port():
            assert self.process.poll() is None, "chromium ended"
            try:
                with open(port_file, encoding="utf-8") as file:
                    lines = file.read().split()
                return lines[0] if len(lines) == 2 else None
            except FileNotFoundError:
                return None

        self.port = until("chromium", port, 60)

    def open(self, url=None, ready="watch"):
        """A new page with the test page in it, or another one that defines `ready`."""
        url = url or f"http://127.0.0.1:{self.server.server_port}/"
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/json/new?{url}", method="PUT"
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            target = json.load(answer)
        tab = Tab(target["webSocketDebuggerUrl"])
        until("the page", lambda: tab.run(f"typeof {ready}") == "function")
        return tab

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.server.shutdown()
        self.log.close()


class Tab:
    """A page that runs what it is told."""

    def __init__(self, url):
        self.socket = connect(url, max_size=64 * 1024 * 1024)
        self.ids = itertools.count(1)

    def call(self, method, **params):
        number = next(self.ids)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def run(self, script):
        """The value of an expression, awaited."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def do(self, function, *args):
        return self.run(f"{function}({', '.join(map(json.dumps, args))})")

    def stats(self):
        return self.run(f"({STATS})()")

    def screenshot(self, path):
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
