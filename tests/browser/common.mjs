// What both scripts need: a browser that is told nothing and asked about everything.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

export const told = JSON.parse(readFileSync(process.argv[2], "utf8"));
export { assert };

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SWITCHES = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--no-proxy-server",
  `--host-resolver-rules=MAP foreign.test ${new URL(told.page).hostname}`,
];
// Under load everything takes longer; whatever comes sooner is not waited for.
const PATIENCE = 30_000;

export async function browser() {
  return chromium.launch({ executablePath: told.chromium, args: SWITCHES });
}

// A visitor whose browser may ask nobody but the page, and complain of nothing.
export class Visitor {
  static async come(browser, options = {}) {
    const visitor = new Visitor();
    visitor.complaints = [];
    visitor.context = await browser.newContext({ baseURL: told.page, timezoneId: "Europe/Berlin", locale: "en-GB", ...options });
    visitor.context.setDefaultTimeout(PATIENCE);
    visitor.page = await visitor.context.newPage();
    visitor.page.on("console", (line) => visitor.complain(line));
    visitor.page.on("pageerror", (error) => visitor.complaints.push(`error: ${error}`));
    visitor.page.on("request", (request) => {
      if (!request.url().startsWith(told.page + "/")) visitor.complaints.push(`asked elsewhere: ${request.url()}`);
      if (request.url().includes("kg_")) visitor.complaints.push("a key in an address");
    });
    return visitor;
  }

  // A refusal that the script asked for is written to the console by the browser itself.
  complain(line) {
    if (line.type() === "error" && this.expected && line.text().includes(`status of ${this.expected}`)) return;
    if (["error", "warning"].includes(line.type())) this.complaints.push(`${line.type()}: ${line.text()}`);
  }

  async logIn() {
    await this.page.goto("/login");
    await this.page.getByLabel("Password").fill(told.password);
    await this.page.getByRole("button", { name: "Log in" }).click();
    await this.page.waitForURL("**/keys");
  }

  // What axe finds, in one line each.
  async inspect() {
    await this.page.evaluate(axe);
    const { violations } = await this.page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    return violations.map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.target).join(" ")}`);
  }

  async leave() {
    assert.deepEqual(this.complaints, []);
    await this.context.close();
  }
}

// The gateway's status for a key.
export async function status(key) {
  const answer = await fetch(`${told.gateway}/api/libraries`, { headers: { authorization: `Bearer ${key}` } });
  await answer.arrayBuffer();
  return answer.status;
}
