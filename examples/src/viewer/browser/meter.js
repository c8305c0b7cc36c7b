// Counts how much media came, from the time stamps of whole frames, as both sides' meters do: a
// frame lasts until the next one of its kind, and a jump of more than half a second is a pause.
"use strict";

const CLOCK = { video: 90, audio: 48 };
const FRAME_MAX_MS = 500;
const counted = { video: 0, audio: 0 };

addEventListener("rtctransform", (event) => {
  const { readable, writable, options } = event.transformer;
  const kind = options.kind;
  let last = null;
  let step = 0;
  const count = new TransformStream({
    transform(frame, out) {
      const stamp = frame.getMetadata().rtpTimestamp ?? frame.timestamp;
      if (last === null) {
        last = stamp;
      } else {
        // Signed, in 32 bits: time stamps wrap around, and frames may come late.
        const ticks = (stamp - last) | 0;
        if (ticks > 0) {
          const ms = ticks / CLOCK[kind];
          if (ms <= FRAME_MAX_MS) step = ms;
          counted[kind] += step;
          last = stamp;
          postMessage(Math.max(counted.video, counted.audio));
        }
      }
      out.enqueue(frame);
    },
  });
  readable.pipeThrough(count).pipeTo(writable);
});
