// The verdict in words, and the figures beside it.

import { clock, duration, number, say, share } from "./words.js";

const MOODS = { drained: "good", draining: "going", scheduled: "going", still: "bad", late: "bad" };

export function showState(facts) {
  const { figures, window: life } = facts;
  say("about", `A token lives ${duration(life)}, which stands for seven days. Version 2 of the payload brings the email.`);
  say("number-mints", `version ${facts.mints}`);
  const ago = Date.now() / 1000 - facts.planned;
  say("note-mints", ago < 0 ? `release in ${duration(-ago)}` : `released ${duration(ago)} ago`);
  if (figures === null) return;
  say("word", figures.verdict);
  say("sentence", figures.sentence);
  document.getElementById("verdict").className = MOODS[figures.verdict.match(/\w+/)[0]] ?? "";
  say("number-rate", share(figures.fallback_rate));
  say("note-rate", `fired ${number(figures.fallbacks)} times`);
  say("number-old", share(figures.old_share));
  say("note-old", `of ${figures.per_second.toFixed(1)} requests/s`);
  const saved = figures.fallbacks - figures.queries;
  say("number-saved", figures.fallbacks ? share(saved / figures.fallbacks) : "-");
  say("note-saved", `${number(figures.queries)} sent for ${number(figures.fallbacks)}`);
  say("number-refused", number(figures.refused));
  say("note-refused", `and ${number(figures.expired)} expired`);
  if (figures.sunset === null) return;
  const left = figures.sunset - figures.at;
  say("number-sunset", left > 0 ? `in ${duration(left)}` : "passed");
  say("note-sunset", `at ${clock(figures.sunset)}`);
}
