// The logged-in user: log in and out, the decoded token, the sessions, the release.

import { clock, element, say } from "./words.js";

const EVERY = 2000;
const byId = (id) => document.getElementById(id);

export class You {
  constructor() {
    this.you = null;
    this.shown = "";
    this.facts = null;
    byId("log-in").addEventListener("submit", (event) => this.logIn(event));
    byId("log-out").addEventListener("click", () => this.leave("/logout", "You are logged out."));
    byId("log-out-everywhere").addEventListener("click", () => this.leave("/logout-everywhere", "You are logged out everywhere."));
    byId("save").addEventListener("click", () => this.save());
    byId("release").addEventListener("click", () => this.release());
    byId("devices").addEventListener("click", (event) => this.revoke(event.target.closest("button")?.dataset.id));
    setInterval(() => this.you && !this.paused && this.ask(), EVERY);
    this.ask();
  }

  // Public facts: the users, and whether there was a release.
  know(facts) {
    if (!byId("email").options.length) {
      byId("email").append(...facts.users.map(({ email, role }) =>
        element("option", role === "admin" ? `${email} (administrator)` : email, { value: email })));
    }
    this.facts = facts;
    this.offerRelease();
  }

  async ask() {
    const answer = await send("GET", "/api/you").catch(() => null);
    if (answer?.ok) this.show((await answer.json()).you);
  }

  show(you) {
    const ended = this.you !== null && you === null && !this.leaving;
    this.you = you;
    byId("log-in").hidden = you !== null;
    byId("logged-in").hidden = you === null;
    if (ended) {
      say("said", "Your session has ended: it expired, or it was revoked. Log in again.");
      byId("email").focus();
    }
    if (you === null) {
      this.shown = "";
      return;
    }
    say("who", `${you.email}, ${you.role}. Payload version ${you.version}; today's is ${you.today}. ` +
      `Your session ends at ${clock(you.expiresAt)}.`);
    byId("admin").hidden = !you.mayAdministrate;
    this.offerRelease();
    const shown = JSON.stringify([you.claims, you.devices]);
    if (shown === this.shown) return;
    this.shown = shown;
    byId("token").tBodies[0].replaceChildren(...you.claims.map(claimRow));
    this.showDevices(you.devices);
  }

  showDevices(devices) {
    const focused = document.activeElement?.dataset?.id;
    byId("devices").replaceChildren(...devices.map(deviceRow));
    if (focused) (byId("devices").querySelector(`[data-id="${CSS.escape(focused)}"]`) ?? byId("you-title")).focus();
  }

  offerRelease() {
    byId("release").hidden = !this.you?.mayRelease;
    if (!this.facts) return;
    byId("who-releases").hidden = this.facts.released || this.you?.mayRelease;
    byId("release").disabled = this.facts.released;
    say("release", this.facts.released ? "Version 2 is released" : "Release version 2");
  }

  async logIn(event) {
    event.preventDefault();
    const { email, password } = event.target.elements;
    await this.doing(async () => {
      const answer = await send("POST", "/login", { email: email.value, password: password.value });
      if (answer.status === 401) throw new Error("Email or password is wrong.");
      expect(answer);
      password.value = "";
      await this.ask();
      say("said", "You are logged in.");
      byId("you-title").focus();
    });
  }

  async leave(path, told) {
    await this.doing(async () => {
      this.leaving = true;
      try {
        expect(await send("POST", path));
        await this.ask();
      } finally {
        this.leaving = false;
      }
      say("said", told);
      byId("email").focus();
    });
  }

  async save() {
    await this.doing(async () => {
      const { savedBy, filled } = await expect(await send("POST", "/api/consolidation/save")).json();
      const how = filled.length ? `The fallback fired: ${filled.join(", ")} was not in your token.` : "Nothing was missing in your token.";
      say("said", `Saved as ${savedBy}. ${how}`);
    });
  }

  async release() {
    await this.doing(async () => {
      expect(await send("POST", "/release"));
      byId("you-title").focus();
      say("said", "Released: from now on logins mint version 2. Old tokens stay valid, and need the fallback.");
    });
  }

  async revoke(id) {
    if (!id) return;
    await this.doing(async () => {
      const here = this.you.devices.some((device) => device.id === id && device.current);
      this.leaving = here;
      try {
        expect(await send("POST", "/devices/revoke-session", { session_id: id, confirm: true }));
        await this.ask();
      } finally {
        this.leaving = false;
      }
      say("said", here ? "Your session here is revoked: you are logged out." : "That session is revoked.");
      if (here) byId("email").focus();
    });
  }

  // Run one action, and announce its result or its error in the live regions.
  async doing(action) {
    say("wrong", "");
    say("said", "");
    try {
      await action();
    } catch (error) {
      say("wrong", error instanceof TypeError ? "The demo does not answer." : error.message);
      if (!(error instanceof TypeError)) await this.ask();
    }
  }
}

function send(method, path, body) {
  const json = body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  return fetch(path, { method, ...json });
}

function expect(answer) {
  if (answer.ok) return answer;
  const why = { 401: "Your session has ended.", 403: "You may not do that.", 503: "The database does not answer." };
  throw new Error(why[answer.status] ?? `The answer was ${answer.status}.`);
}

function claimRow(claim) {
  const row = element("tr");
  const filled = claim.source !== "token";
  const value = claim.time ? clock(claim.value) : Array.isArray(claim.value) ? claim.value.join(", ") : String(claim.value);
  const source = { coalesced: "shared query" }[claim.source] ?? claim.source;
  row.append(
    element("th", claim.name, { scope: "row" }),
    element("td", value),
    element("td", filled ? `filled: ${source}` : source, filled ? { class: "filled" } : {}),
  );
  return row;
}

function deviceRow(device) {
  const row = element("li");
  const name = `${device.label}, since ${clock(device.since)}`;
  row.append(
    element("span", device.current ? `${name} (this one)` : name),
    element("button", "Revoke", { type: "button", "data-id": device.id, "aria-label": `Revoke ${name}` }),
  );
  return row;
}
