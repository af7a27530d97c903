// What people do at the page, from the login to a revoked key.
import { Visitor, assert, browser, status, told } from "./common.mjs";

// The form for a new key, up to the page that shows it. Gives its text.
async function make(page, name) {
  await page.goto("/keys");
  await page.getByRole("link", { name: /^(New key|Make the first key)$/ }).first().click();
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByLabel("Account that it acts for").selectOption({ label: "audiobookshelf/alice" });
  await page.getByRole("combobox", { name: "Expires" }).selectOption("90d");
  await page.getByRole("radio", { name: /^read-only/ }).check();
  await page.getByRole("button", { name: "Make the key" }).click();
  await page.waitForURL("**/secret");
  const key = await page.getByLabel("Key", { exact: true }).inputValue();
  assert.match(key, /^kg_[0-9A-Za-z]{10}_/);
  assert.ok(!page.url().includes(key));
  return key;
}

async function rotate(page) {
  await page.getByRole("link", { name: "Rotate" }).click();
  await page.getByLabel("The old secret stays good").selectOption("3600");
  await page.getByRole("button", { name: "Rotate" }).click();
  await page.waitForURL("**/secret");
  return page.getByLabel("Key", { exact: true }).inputValue();
}

async function revoke(page, name, visitor) {
  await page.getByRole("link", { name: "Revoke" }).click();
  await page.getByRole("link", { name: "Cancel" }).click();
  await page.getByRole("link", { name: "Revoke" }).click();
  visitor.expected = 400;
  await page.getByLabel("Type the key's name").fill(`not ${name}`);
  await page.getByRole("button", { name: "Revoke" }).click();
  await page.getByRole("alert").getByText("nothing was revoked").waitFor();
  visitor.expected = undefined;
  await page.getByLabel("Type the key's name").fill(name);
  await page.getByRole("button", { name: "Revoke" }).click();
  await page.getByText("The key is revoked").waitFor();
}

// Limits, by the keyboard alone: a wrong one comes back with all that was written, and the cursor in it.
async function limit(page, name, visitor, key) {
  await page.goto("/keys");
  await page.locator("summary", { hasText: "⋯" }).first().focus();
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), `Actions for ${name}`);
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/edit");
  await page.locator("summary", { hasText: "Limits and networks" }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  await page.keyboard.type("127.0.0.0/8, ::1");
  await page.keyboard.press("Tab");
  await page.keyboard.type("often");
  visitor.expected = 400;
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("is no rate").waitFor();
  visitor.expected = undefined;
  const field = page.getByLabel("Requests", { exact: true });
  assert.ok(await field.evaluate((input) => input === document.activeElement && input.getAttribute("aria-invalid") === "true"));
  const said = await field.evaluate((input) => input.getAttribute("aria-describedby").split(" ").map((id) => document.getElementById(id).textContent));
  assert.ok(said.length === 2 && said[1].includes('"often" is no rate'), said.join());
  assert.equal(await page.getByLabel("Only from these networks").inputValue(), "127.0.0.0/8, ::1");
  await page.keyboard.press("Control+a");
  await page.keyboard.type("1/h");
  await page.keyboard.press("Enter");
  await page.getByText("The key was changed").waitFor();
  await page.getByText("127.0.0.0/8, ::1/128").waitFor();
  assert.deepEqual([await status(key), await status(key)], [200, 429]);
}

// The same with a pointer. Then the limits are lifted.
async function limitAndLift(page, visitor, key) {
  await page.getByRole("link", { name: "Edit" }).click();
  await page.getByText("Limits and networks").click();
  await page.getByLabel("Only from these networks").fill("192.168.1.7/24");
  await page.getByLabel("Streams at once").fill("0");
  visitor.expected = 400;
  await page.getByRole("button", { name: "Change it" }).click();
  assert.equal(await page.getByRole("alert").getByRole("link").count(), 2);
  visitor.expected = undefined;
  await page.getByLabel("Only from these networks").fill("192.0.2.0/24");
  await page.getByLabel("Streams at once").fill("2");
  await page.getByRole("button", { name: "Change it" }).click();
  await page.getByText("The key was changed").waitFor();
  assert.equal(await status(key), 403);
  await page.getByRole("link", { name: "Edit" }).click();
  await page.getByLabel("Only from these networks").fill("");
  await page.getByRole("button", { name: "Change it" }).click();
  await page.getByText("The key was changed").waitFor();
  assert.equal(await status(key), 200);
}

// By a name that is none of the listener's, a page is shown that loads nothing.
async function foreignName(chromium) {
  const context = await chromium.newContext();
  const page = await context.newPage();
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  const address = new URL("/keys", told.page);
  address.hostname = "foreign.test";
  const answer = await page.goto(address.href);
  assert.equal(answer.status(), 421);
  await page.getByText("this host name is none of the admin listener's").waitFor();
  assert.deepEqual(asked, [address.href]);
  await context.close();
}

async function withScript(chromium) {
  const visitor = await Visitor.come(chromium, { permissions: ["clipboard-read", "clipboard-write"] });
  const { page } = visitor;
  await page.goto("/keys");
  assert.ok(page.url().endsWith("/login"), "who is not logged in is led to the login");
  visitor.expected = 401;
  // By the keyboard alone: the field has the focus.
  await page.keyboard.type("not the password");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("the password is wrong").waitFor();
  visitor.expected = undefined;
  await page.keyboard.type(told.password);
  await page.keyboard.press("Enter");
  await page.waitForURL("**/keys");
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "To the content");

  const first = await make(page, "phone");
  await page.getByRole("button", { name: "Copy" }).first().click();
  await page.getByRole("status").getByText("Copied").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), first);
  assert.ok((await page.locator("#curl").textContent()).includes(`${told.gateway}/api/libraries`), "with the gateway's own address");
  assert.equal(await status(first), 200);
  await page.reload();
  await page.getByText("shown already").waitFor();
  assert.ok(!(await page.content()).includes(first));
  await page.goto("/keys");
  await page.goBack();
  assert.ok(!(await page.content()).includes(first), "and the browser's history has kept nothing");

  visitor.expected = 404;
  await page.goto("/no/such/page");
  await page.getByRole("heading", { name: "Not Found" }).waitFor();
  visitor.expected = undefined;
  await page.getByRole("link", { name: "Back to the keys" }).click();
  await page.getByRole("link", { name: "phone" }).click();
  const second = await rotate(page);
  assert.deepEqual([await status(first), await status(second)], [200, 200]);
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.getByText("ready to be used").waitFor();
  assert.ok(!page.url().includes("done="), "what was told once is not told again");

  await page.getByRole("link", { name: "Edit" }).click();
  await page.getByText("Custom", { exact: true }).click();
  await page.getByRole("checkbox", { name: /^browse/ }).uncheck();
  assert.ok(await page.getByRole("radio", { name: /^custom/ }).isChecked(), "ticking chooses custom");
  await page.getByRole("button", { name: "Change it" }).click();
  await page.getByText("The key was changed").waitFor();
  assert.equal(await status(second), 403);
  await page.getByRole("link", { name: "Disable" }).click();
  await page.getByRole("button", { name: "Disable" }).click();
  await page.getByText("The key is disabled").waitFor();
  assert.equal(await status(second), 401);
  await page.getByRole("button", { name: "Enable" }).click();
  await page.getByText("enabled again").waitFor();
  assert.equal(await status(second), 403);
  await stream(page);
  await page.goto("/keys?q=phone");
  await page.getByRole("link", { name: "phone" }).click();
  await revoke(page, "phone", visitor);
  assert.equal(await status(second), 401);
  const third = await make(page, "desk");
  await limit(page, "desk", visitor, third);
  await accounts(page);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/login");
  await page.goto("/keys");
  assert.ok(page.url().endsWith("/login"));
  await visitor.leave();
}

// Something that runs is seen, and closed by itself.
async function stream(page) {
  const key = await make(page, "radio");
  const answer = await fetch(`${told.gateway}/keygate-test/slow?pause=3600000`, { headers: { "x-emby-token": key } });
  assert.equal(answer.status, 403, "read-only does not reach what is in no table");
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.getByRole("link", { name: "Edit" }).click();
  await page.getByRole("radio", { name: /^full/ }).check();
  await page.getByRole("button", { name: "Change it" }).click();
  const running = await fetch(`${told.gateway}/keygate-test/slow?pause=3600000`, { headers: { "x-emby-token": key } });
  assert.equal(running.status, 200);
  const ended = running.arrayBuffer().then(() => "whole", () => "cut");
  const close = page.getByRole("link", { name: "Close" });
  for (let tries = 0; tries < 100 && (await close.count()) === 0; tries++) {
    await page.waitForTimeout(100);
    await page.reload();
  }
  await close.click();
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByText("It is being closed").waitFor();
  assert.equal(await ended, "cut");
  assert.equal(await status(key), 200, "the key is good");
}

async function accounts(page) {
  await page.goto("/accounts");
  await page.getByRole("button", { name: "Log in again" }).click();
  await page.getByText("The account is logged in").waitFor();
  await page.getByRole("progressbar", { name: "what is left of it" }).waitFor();
  await page.goto("/status");
  await page.getByRole("img", { name: /^95 of 100 answers/ }).waitFor();
}

async function withoutScript(chromium) {
  const visitor = await Visitor.come(chromium, { javaScriptEnabled: false, viewport: { width: 375, height: 812 } });
  const { page } = visitor;
  await visitor.logIn();
  const first = await make(page, "no script");
  assert.equal(await status(first), 200);
  assert.equal(await page.getByRole("button", { name: "Copy" }).count(), 0, "a button that would do nothing is not there");
  await page.getByRole("link", { name: "I have stored it" }).click();
  await page.getByText("ready to be used").waitFor();
  const second = await rotate(page);
  assert.deepEqual([await status(first), await status(second)], [200, 200]);
  await page.getByRole("link", { name: "I have stored it" }).click();
  await limitAndLift(page, visitor, second);
  await revoke(page, "no script", visitor);
  assert.deepEqual([await status(first), await status(second)], [401, 401]);
  await visitor.leave();
}

const chromium = await browser();
try {
  await withScript(chromium);
  await withoutScript(chromium);
  await foreignName(chromium);
} finally {
  await chromium.close();
}
