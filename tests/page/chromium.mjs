// A headless Chromium, driven over its debugging pipe: no package from npm is needed.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const WAIT_MILLISECONDS = 15000;

export class Browser {
  #answers = new Map();
  #listeners = [];
  #number = 0;
  #rest = "";

  constructor(program) {
    this.profile = mkdtempSync(join(tmpdir(), "page-test-"));
    const options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
      "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage",
      `--user-data-dir=${this.profile}`, "about:blank"];
    this.process = spawn(program, options, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.process.stdio[4].setEncoding("utf8").on("data", (text) => this.#receive(text));
  }

  #receive(text) {
    const messages = (this.#rest + text).split("\0");
    this.#rest = messages.pop();
    for (const message of messages.map((text) => JSON.parse(text))) {
      if (message.id) this.#answers.get(message.id)(message);
      else this.#listeners.forEach((listener) => listener(message));
    }
  }

  async send(method, params = {}, sessionId, limit = WAIT_MILLISECONDS) {
    const id = ++this.#number;
    const answer = new Promise((resolve) => this.#answers.set(id, resolve));
    this.process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    const { error, result } = await within(answer, method, limit);
    if (error) throw new Error(`${method}: ${error.message}`);
    return result;
  }

  /** A fresh page with settings of its own. */
  async open(url, { width = 1280, height = 900, dark = false, language = "en-US" } = {}) {
    const { browserContextId } = await this.send("Target.createBrowserContext");
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId);
    this.#listeners.push((message) => message.sessionId === sessionId && page.heard(message));
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await page.send(`${domain}.enable`);
    const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
    await page.send("Emulation.setEmulatedMedia", { features });
    const metrics = { width, height, deviceScaleFactor: 1, mobile: width < 600 };
    await page.send("Emulation.setDeviceMetricsOverride", metrics);
    const { userAgent } = await this.send("Browser.getVersion");
    await page.send("Emulation.setUserAgentOverride", { userAgent, acceptLanguage: language });
    await page.send("Page.navigate", { url });
    await page.until("location.href !== 'about:blank' && document.readyState === 'complete'");
    return page;
  }

  async close() {
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    // Asked to, it ends its helpers before itself; killed, it would leave them at work for a while.
    this.send("Browser.close").catch(() => {});
    await within(ended, "Browser.close").catch(() => this.process.kill("SIGKILL"));
    await remove(this.profile);
  }
}

export class Page {
  complaints = [];
  requests = [];

  constructor(browser, sessionId) {
    this.browser = browser;
    this.sessionId = sessionId;
  }

  send(method, params, limit) {
    return this.browser.send(method, params, this.sessionId, limit);
  }

  heard({ method, params }) {
    if (method === "Runtime.exceptionThrown") this.complaints.push(params.exceptionDetails.text);
    // The refused token of the token test is an error for the log, not for us.
    if (method === "Log.entryAdded" && params.entry.level === "error" && !params.entry.text.includes("401")) {
      this.complaints.push(params.entry.text);
    }
    if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
  }

  async evaluate(expression, limit) {
    const options = { expression, returnByValue: true, awaitPromise: true };
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", options, limit);
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception.description}`);
    return result.value;
  }

  /** Waits until an expression is true. */
  async until(expression) {
    const end = Date.now() + WAIT_MILLISECONDS;
    // While the page is being loaded there may be nothing to evaluate in.
    while (!(await this.evaluate(`Boolean(${expression})`).catch(() => false))) {
      if (Date.now() > end) {
        const text = await this.evaluate("document.body.innerText.slice(0, 2000)");
        throw new Error(`waited in vain for ${expression}; the page shows:\n${text}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** Presses a key and lets it go. */
  async press(key) {
    const text = key === "Enter" ? "\r" : undefined;
    const windowsVirtualKeyCode = { Tab: 9, Enter: 13 }[key];
    await this.send("Input.dispatchKeyEvent", { type: "keyDown", key, code: key, text, windowsVirtualKeyCode });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", key, code: key, windowsVirtualKeyCode });
  }

  async screenshot(name) {
    if (!process.env.PAGE_SCREENSHOTS) return;
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    writeFileSync(join(process.env.PAGE_SCREENSHOTS, `${name}.png`), Buffer.from(data, "base64"));
  }
}

function within(promise, what, limit = WAIT_MILLISECONDS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer to ${what}`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Removes a folder that a dying process may still be writing into. `rmSync` alone can't: its
 *  retries repeat the last step only and never look again at what the folder holds. */
async function remove(folder) {
  const end = Date.now() + WAIT_MILLISECONDS;
  for (;;) {
    try {
      return rmSync(folder, { recursive: true, force: true });
    } catch (error) {
      if (error.code !== "ENOTEMPTY" || Date.now() > end) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
