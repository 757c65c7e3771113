"use strict";
// Loads the page again, and says when it seems that nobody writes it any more.
(() => {
  const { state, written, interval, silence } = document.documentElement.dataset;
  const key = "palletfit " + location.pathname;
  // The clock of the machine that writes may be wrong: what counts is how long the same version has
  // been seen here. Only a page that is opened for the first time is judged by the clock.
  const now = Date.now() / 1000;
  let seen = null;
  try {
    seen = JSON.parse(sessionStorage.getItem(key));
  } catch {
    // without storage, or with something else in it
  }
  const changed = seen !== null && seen.written !== written;
  if (seen === null || changed) {
    seen = { written, since: seen === null ? Math.min(Number(written), now) : now };
  }
  try {
    sessionStorage.setItem(key, JSON.stringify(seen));
  } catch {
    // the page works without it
  }
  const news = document.getElementById("news");
  const pill = document.getElementById("state");
  const look = () => {
    if (state !== "running") {
      news.textContent = "";
      return;
    }
    const silent = Date.now() / 1000 - seen.since;
    if (silent > Number(silence)) {
      news.innerHTML = "";
      const warning = document.createElement("b");
      warning.textContent =
        "Nothing was written since: the run has ended without a word, or was killed. " +
        "What is finished is kept; the same command goes on.";
      news.append(warning);
      pill.className = "state silent";
      pill.textContent = "no news";
    } else {
      news.textContent = `This page loads itself again every ${interval} s.`;
    }
  };
  look();
  const again = () => {
    // A page that nobody sees, or whose text is being marked, waits.
    if (document.hidden || String(getSelection())) {
      setTimeout(again, 1000);
    } else {
      location.reload();
    }
  };
  setTimeout(again, 1000 * Number(interval));
})();
