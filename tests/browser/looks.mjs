// Every page at two widths, in light and in dark: nothing sticks out, axe finds nothing, the browser complains of nothing.
import { mkdirSync } from "node:fs";
import { Visitor, assert, browser, told } from "./common.mjs";

const ofKey = (part) => `/keys/${told.key}${part}`;
const PAGES = {
  keys: "/keys?sort=used",
  search: "/keys?q=nobody",
  new: "/keys/new",
  key: ofKey(""),
  edit: ofKey("/edit"),
  rotate: ofKey("/rotate"),
  disable: ofKey("/disable"),
  revoke: ofKey("/revoke"),
  gone: ofKey("/secret"),
  accounts: "/accounts",
  password: "/accounts/1/password",
  refused: "/refused",
  audit: "/audit",
  status: "/status",
  sessions: "/sessions",
  end: "/sessions/1/end",
};
const WIDTHS = [1280, 375];

if (told.pictures) mkdirSync(told.pictures, { recursive: true });

async function look(visitor, name, path, label) {
  const { page } = visitor;
  if (path) await page.goto(path);
  const found = await visitor.inspect();
  assert.deepEqual(found, [], `${name}, ${label}`);
  const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(tooWide <= 0, `${name}, ${label}: ${tooWide} px stick out`);
  if (told.pictures) await page.screenshot({ path: `${told.pictures}/${name}-${label}.png`, fullPage: visitor.width > 600 });
}

async function tour(chromium, width, colorScheme) {
  const visitor = await Visitor.come(chromium, { viewport: { width, height: 800 }, colorScheme });
  visitor.width = width;
  const label = `${width}-${colorScheme}`;
  await look(visitor, "login", "/login", label);
  await visitor.logIn();
  for (const [name, path] of Object.entries(PAGES)) await look(visitor, name, path, label);
  await visitor.page.goto("/keys");
  await visitor.page.locator("summary", { hasText: "⋯" }).nth(1).click();
  await look(visitor, "menu", null, label);
  await visitor.page.goto("/keys/new");
  await visitor.page.getByLabel("Name", { exact: true }).fill(`tablet ${label}`);
  await visitor.page.getByText("Limits and networks").click();
  await look(visitor, "limits", null, label);
  await visitor.page.getByLabel("Only from these networks").fill("192.168.1.7/24");
  await visitor.page.getByLabel("Requests", { exact: true }).fill("often");
  visitor.expected = 400;
  await visitor.page.getByRole("button", { name: "Make the key" }).click();
  await visitor.page.getByRole("alert").waitFor();
  await look(visitor, "wrong", null, label);
  visitor.expected = undefined;
  await visitor.page.getByLabel("Only from these networks").fill("");
  await visitor.page.getByLabel("Requests", { exact: true }).fill("60/min");
  await visitor.page.getByRole("button", { name: "Make the key" }).click();
  await visitor.page.waitForURL("**/secret");
  await look(visitor, "secret", null, label);
  visitor.expected = 404;
  await look(visitor, "error", "/keys/nothing", label);
  await look(visitor, "nowhere", "/nowhere", label);
  await visitor.leave();
}

const chromium = await browser();
try {
  for (const width of WIDTHS) for (const scheme of ["light", "dark"]) await tour(chromium, width, scheme);
} finally {
  await chromium.close();
}
