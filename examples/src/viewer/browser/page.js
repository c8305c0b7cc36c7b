// Plays a stream. The connection is here, the money is not: what comes over the data channel goes
// to the program that served this page, and what that program says goes back.
"use strict";

const whep = document.querySelector("main").dataset.whep;
const player = document.getElementById("player");
const button = document.getElementById("play");
const status = document.getElementById("status");

let pc = null;
let channel = null;
let socket = null;
let at = null;
let mediaMs = 0;
// What the streamer said before anybody here listened.
let early = [];

// The certificate that this description names; there must be just one.
function fingerprint(sdp) {
  const found = new Set();
  for (const line of sdp.matchAll(/^a=fingerprint:(\S+) ([0-9A-Fa-f:]+)\s*$/gm)) {
    found.add(line[1].toLowerCase() + " " + line[2].toUpperCase());
  }
  const [only] = found;
  if (found.size !== 1 || !only.startsWith("sha-256 ")) {
    throw new Error("the connection's certificate is not named as it should be");
  }
  return only.slice("sha-256 ".length);
}

function gathered() {
  return new Promise((done) => {
    const check = () => pc.iceGatheringState === "complete" && done();
    pc.addEventListener("icegatheringstatechange", check);
    check();
  });
}

// Connects. Nothing is paid, and so nothing comes.
async function join() {
  mediaMs = 0;
  early = [];
  pc = new RTCPeerConnection();
  channel = pc.createDataChannel("streampay", { protocol: "streampay/1", ordered: true });
  channel.binaryType = "arraybuffer";
  channel.onmessage = (event) => (socket ? socket.send(event.data) : early.push(event.data));
  const open = new Promise((done, failed) => {
    channel.onopen = done;
    channel.onclose = () => failed(new Error("the streamer hung up"));
  });
  open.catch(() => {});
  const media = new MediaStream();
  player.srcObject = media;
  pc.ontrack = (event) => media.addTrack(event.track);
  const meter = new Worker("meter.js");
  meter.onmessage = (event) => (mediaMs = event.data);
  for (const kind of ["video", "audio"]) {
    const { receiver } = pc.addTransceiver(kind, { direction: "recvonly" });
    receiver.transform = new RTCRtpScriptTransform(meter, { kind });
  }
  await pc.setLocalDescription();
  await gathered();
  const answer = await fetch(whep, {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: pc.localDescription.sdp,
  });
  const sdp = await answer.text();
  if (answer.status !== 201) {
    throw new Error(`the streamer answered ${answer.status}: ${sdp}`);
  }
  at = answer.headers.get("Location");
  await pc.setRemoteDescription({ type: "answer", sdp });
  await open;
}

// Lets the program pay, from here on.
function pay() {
  const url = new URL("session", location.href);
  url.protocol = "ws:";
  const ws = new WebSocket(url);
  ws.binaryType = "arraybuffer";
  ws.onopen = () => {
    ws.send(
      JSON.stringify({
        payer: fingerprint(pc.localDescription.sdp),
        payee: fingerprint(pc.remoteDescription.sdp),
      }),
    );
    early.forEach((message) => ws.send(message));
    socket = ws;
  };
  ws.onmessage = (event) => channel.readyState === "open" && channel.send(event.data);
  const told = setInterval(tell, 100, ws);
  let over = false;
  const ended = () => {
    clearInterval(told);
    if (!over) leave();
    over = true;
  };
  ws.onclose = ended;
  channel.onclose = ended;
}

// Tells how much came.
async function tell(ws) {
  const sum = { media_ms: Math.floor(mediaMs), bytes: 0, packets: 0 };
  (await pc.getStats()).forEach((it) => {
    if (it.type === "inbound-rtp") {
      sum.bytes += it.bytesReceived;
      sum.packets += it.packetsReceived;
    }
  });
  if (ws.readyState === WebSocket.OPEN && socket === ws) ws.send(JSON.stringify(sum));
}

// Hangs up, once what the program said last has left.
async function leave() {
  if (socket) socket.close();
  socket = null;
  const gone = { pc, channel, at };
  at = null;
  for (let waits = 0; waits < 50 && gone.channel.bufferedAmount > 0; waits += 1) {
    await new Promise((done) => setTimeout(done, 20));
  }
  // It has left this page, not yet this machine.
  await new Promise((done) => setTimeout(done, 200));
  gone.pc.close();
  // A page of another origin may not always do so; the streamer sees the connection end.
  if (gone.at) fetch(gone.at, { method: "DELETE" }).catch(() => {});
  button.disabled = false;
  status.textContent = "The connection has ended: play to go on, or see what the program says.";
}

button.onclick = async () => {
  button.disabled = true;
  status.textContent = "Connecting.";
  try {
    await join();
    pay();
    status.textContent = "Paid as it plays.";
  } catch (error) {
    button.disabled = false;
    status.textContent = String(error.message ?? error);
  }
};
