// Shows the command for this link. It is pasted into a shell, so that it is made only of what
// cannot mean anything there: whoever passes a link on chooses what stands behind the #.
"use strict";

function link() {
  const base = location.origin + location.pathname;
  const plain = /^https?:\/\/[0-9A-Za-z.:[\]-]+\/[0-9A-Za-z._~\/-]*$/;
  const key = /^#key=[0-9a-f]{64}$/;
  if (!plain.test(base) || !key.test(location.hash)) {
    return null;
  }
  return base.replace(/\/$/, "/whep") + location.hash;
}

function show() {
  const whole = link();
  document.getElementById("link").textContent = whole ?? "";
  document.getElementById("whole").hidden = whole === null;
  document.getElementById("broken").hidden = whole !== null;
}

addEventListener("hashchange", show);
show();
