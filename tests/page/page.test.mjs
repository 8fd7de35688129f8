// The inventory page in a real browser. Started by tests/it/inventory/page.rs with the addresses of
// three servers (an open one, one that asks for the token "open-sesame", one with 2,000 nodes and 300
// objects) and Chromium's path. Lines on standard output ask the Rust side for something: "change" to
// commit a change, "fail" to have an object "shop/brand-new" fail, "rotate" to exchange the token for
// "new-token". `PAGE_AXE` is the axe.min.js of the npm package axe-core, which looks for barriers.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { Browser } from "./chromium.mjs";

const [open, guarded, large, program] = process.argv.slice(2);
const browser = new Browser(program);
const cards = "[...document.querySelectorAll('.node')].map((card) => card.querySelector('.name').textContent)";
const type = (text) => `(() => { const box = document.getElementById("search"); box.value = ${JSON.stringify(text)};
  box.dispatchEvent(new Event("input")); })()`;

const enter = (token) => `(() => { document.getElementById("token").value = "${token}";
  document.getElementById("token-form").requestSubmit(); })()`;

const attention = "[...document.querySelectorAll('#attention .name')].map((name) => name.textContent)";

/** What axe-core finds wrong with a page; it looks for a while. */
async function barriers(page) {
  await page.evaluate(readFileSync(process.env.PAGE_AXE, "utf8"));
  return page.evaluate(`axe.run().then(({ violations }) =>
    violations.map(({ id, nodes }) => id + ": " + nodes.map((node) => node.html).join("\\n")))`, 120000);
}

const promises = {
  async "everything is shown as text, failures first, from one origin"() {
    const page = await browser.open(`${open}/`);
    await page.until("document.querySelectorAll('.node').length === 8");
    await page.screenshot("desktop-light");
    assert.ok((await page.evaluate(cards)).includes("<script>window.taken = true</script>"));
    assert.equal(await page.evaluate("window.taken"), undefined);
    assert.equal(await page.evaluate("document.querySelectorAll('script, img').length"), 1);
    assert.deepEqual(await page.evaluate(attention), ["held", "lost", "blue", "amber"]);
    // Off screen, innerText has nothing.
    const text = await page.evaluate("document.body.textContent");
    for (const part of ["NovaError", "multinic0", "fa:16:3e:00:00:01", "10.10.0.2", "10.10.0.0/16", "1450",
      "1 DOWN", "2 over the limit of 10", "Provider p1", "ids of the Go operator", "due now"]) {
      assert.ok(text.includes(part), `${part} is not shown`);
    }
    assert.ok(page.requests.every((url) => url.startsWith(open) || url.startsWith("data:")), page.requests.join());
    assert.deepEqual(page.complaints, []);
  },

  async "it works below a prefix, as behind an ingress or kubectl proxy"() {
    const prefix = "/api/v1/namespaces/x/services/y:18081/proxy";
    const proxy = http.createServer((request, answer) => {
      if (!request.url.startsWith(`${prefix}/`)) return answer.writeHead(404).end();
      const target = new URL(request.url.slice(prefix.length), open);
      const headers = { ...request.headers, host: target.host };
      http.request(target, { method: request.method, headers }, (answered) => {
        answer.writeHead(answered.statusCode, answered.headers);
        answered.pipe(answer);
      }).end();
    });
    await new Promise((done) => proxy.listen(0, "127.0.0.1", done));
    const base = `http://127.0.0.1:${proxy.address().port}${prefix}`;
    const page = await browser.open(`${base}/`);
    await page.until("document.querySelectorAll('.node').length >= 8");
    await page.evaluate("document.querySelector('.node button').click()");
    await page.until("document.querySelector('.node .timeline li')");
    assert.equal(await page.evaluate("document.querySelector('nav a').href"), `${base}/docs`);
    assert.ok(page.requests.every((url) => url.startsWith(base) || url.startsWith("data:")), page.requests.join());
    assert.deepEqual(page.complaints, []);
    const docs = await browser.open(`${base}/docs`);
    assert.equal(await docs.evaluate("document.querySelector('nav a').href"), `${base}/`);
    assert.deepEqual(docs.complaints, []);
    proxy.close();
    proxy.closeAllConnections();
  },

  async "each interface says what the agent made of it"() {
    const page = await browser.open(`${open}/`);
    await page.until("document.querySelectorAll('.node .badge.failed').length === 1");
    const card = "[...document.querySelectorAll('.node')].find((card) => card.querySelector('.name').textContent === 'worker-3')";
    const text = await page.evaluate(`${card}.textContent`);
    for (const part of ["configured", "failed", "JobFailed: interface with MAC not found", "is not as sent"]) {
      assert.ok(text.includes(part), `${part} is not shown`);
    }
    const objects = await page.evaluate("document.getElementById('attention').innerText");
    assert.ok(objects.includes("1/2 configured") && objects.includes("AgentFailed: the agent failed on 1 node"));
    await page.evaluate(type("mac not found"));
    assert.deepEqual(await page.evaluate(cards), ["worker-3"]);
  },

  async "what needs attention says why, since when and what to do, by keyboard too"() {
    for (const [language, since, todo] of [["en-US", "3 nodes held, began", "repair it"], ["ko-KR", "노드 3개 보류", "고치십시오"]]) {
      const page = await browser.open(`${large}/`, { language });
      await page.until("document.querySelectorAll('.node').length === 200");
      assert.equal(await page.evaluate("document.querySelectorAll('#objects .object').length"), 10);
      assert.deepEqual((await page.evaluate(attention)).slice(0, 3), ["object-007", "object-107", "object-207"]);
      assert.equal((await page.evaluate(attention)).length, 9);
      const first = await page.evaluate("document.querySelector('#attention .object').innerText");
      for (const part of ["ChangeHeld", since, todo]) assert.ok(first.includes(part), `${part}: ${first}`);
      await page.evaluate(`navigator.clipboard.writeText = async (text) => { window.copied = text; }`);
      // The API's address, the search box, then the first command.
      for (let pressed = 0; pressed < 3; pressed += 1) await page.press("Tab");
      await page.press("Enter");
      await page.until("window.copied");
      assert.equal(await page.evaluate("window.copied"),
        "kubectl -n shop annotate osc object-007 --overwrite multinic.example.com/approve=0123456789ab");
      // What is shown anew leaves the keyboard where it is.
      await page.evaluate("document.getElementById('search').dispatchEvent(new Event('input'))");
      const focused = "document.activeElement.dataset.key";
      assert.equal(await page.evaluate(focused), '["approve","shop","object-007"]');
      const outline = "getComputedStyle(document.activeElement).outlineStyle";
      assert.equal(await page.evaluate(outline), "solid");
      await page.screenshot(`on-call-${language}`);
      await page.evaluate("document.getElementById('more-objects').click()");
      await page.until("document.querySelectorAll('#objects .object').length === 291");
      await page.evaluate(type("worker-1999"));
      await page.until("document.querySelectorAll('.node').length === 1");
      assert.deepEqual(page.complaints, []);
    }
  },

  async "axe-core finds no barrier"() {
    if (!process.env.PAGE_AXE) return console.log("left out: PAGE_AXE names no axe.min.js of axe-core");
    for (const [name, url, options] of [
      ["English", `${large}/`, {}], ["Korean", `${large}/`, { language: "ko-KR" }],
      ["dark", `${open}/`, { dark: true }], ["phone", `${open}/`, { width: 390, height: 844 }],
      ["docs", `${open}/docs`, {}], ["token", `${guarded}/`, {}]]) {
      const page = await browser.open(url, options);
      await page.until("document.querySelector('.node, .docs h2, #token-form:not([hidden])')");
      await page.evaluate("document.querySelector('.node button')?.click()");
      assert.deepEqual(await barriers(page), [], name);
    }
  },

  async "search finds any field at once"() {
    const page = await browser.open(`${open}/`);
    await page.until("document.querySelectorAll('.node').length === 8");
    for (const [text, expected] of [["fa:16:3e:00:01:90", ["worker-4"]], ["vm-worker-3", ["worker-3"]],
      ["P2 WORKER", ["worker-0"]], ["<script>", ["<script>window.taken = true</script>"]], ["nowhere", []]]) {
      await page.evaluate(type(text));
      assert.deepEqual(await page.evaluate(cards), expected, text);
    }
    assert.ok(await page.evaluate("!document.getElementById('nothing').hidden"));
    await page.evaluate(type("novaerror"));
    assert.equal(await page.evaluate("document.querySelectorAll('.object').length"), 1);
  },

  async "a node has a timeline and a curl line that a shell can take"() {
    const page = await browser.open(`${open}/`);
    await page.until("document.querySelectorAll('.node').length === 8");
    await page.evaluate(`navigator.clipboard.writeText = async (text) => { window.copied = text; }`);
    const card = `[...document.querySelectorAll('.node')].find((card) => card.textContent.startsWith("it's"))`;
    await page.evaluate(`${card}.querySelectorAll('button')[1].click()`);
    await page.until("window.copied");
    assert.equal(await page.evaluate("window.copied"),
      `curl -sS '${open}/v1/inventory/node-configs/it%27s?providerId=p1'`);
    await page.evaluate(`${card}.querySelector('button').click()`);
    await page.until(`${card}.querySelectorAll('.timeline li').length >= 4`);
    const lines = await page.evaluate(`${card}.querySelector('.timeline').innerText`);
    assert.match(lines, /multinic0: mtu 1450 → 9000[\s\S]*sent for the first time, interfaces: 1/);
    await page.evaluate(`${card}.scrollIntoView({ block: "center" })`);
    await page.screenshot("timeline");
  },

  async "changes come by themselves and keep open what is open"() {
    const page = await browser.open(`${open}/`);
    await page.until("document.querySelectorAll('.node').length === 8");
    await page.evaluate("document.querySelector('.node button').click()");
    await page.until("document.querySelector('.node .timeline li')");
    console.log("change");
    await page.until("document.querySelectorAll('.node').length === 9");
    assert.ok(await page.evaluate("document.querySelector('.node .timeline li') !== null"));
    assert.deepEqual(page.complaints, []);
  },

  async "a new failure is shown though the nodes can't be asked"() {
    const page = await browser.open(`${open}/`);
    await page.until("document.querySelectorAll('.node').length >= 8");
    await page.evaluate(`(() => { const real = window.fetch; window.broken = true;
      window.fetch = async (path, options) => {
        if (window.broken && path.startsWith("v1/inventory")) throw new TypeError("broken by the test");
        return real(path, options);
      }; })()`);
    console.log("fail");
    await page.until("document.getElementById('attention').innerText.includes('brand-new')");
    await page.until("document.getElementById('freshness').classList.contains('bad')");
    await page.evaluate("window.broken = false");
    await page.until("!document.getElementById('freshness').classList.contains('bad')");
    assert.ok(await page.evaluate("document.getElementById('attention').innerText.includes('brand-new')"));
    assert.deepEqual(page.complaints, []);
  },

  async "dark and phone are as readable"() {
    const ground = "getComputedStyle(document.body).backgroundColor";
    const dark = await browser.open(`${open}/`, { dark: true });
    await dark.until("document.querySelectorAll('.node').length >= 8");
    assert.equal(await dark.evaluate(ground), "rgb(20, 21, 23)");
    await dark.screenshot("desktop-dark");
    const phone = await browser.open(`${open}/`, { width: 390, height: 844 });
    await phone.until("document.querySelectorAll('.node').length >= 8");
    assert.ok(await phone.evaluate("document.documentElement.scrollWidth <= 390"), "it must not scroll sideways");
    await phone.screenshot("phone");
    await phone.evaluate("document.querySelector('.node').scrollIntoView(); scrollBy(0, -110)");
    await phone.screenshot("phone-nodes");
    const docs = await browser.open(`${open}/docs`, { width: 390, height: 844 });
    await docs.until("document.querySelector('h2')");
    assert.ok(await docs.evaluate("document.documentElement.scrollWidth <= 390"), "nor the description");
    await docs.screenshot("docs-phone");
    const wide = await browser.open(`${open}/docs`);
    await wide.until("document.querySelector('h2')");
    await wide.screenshot("docs");
    assert.deepEqual([...docs.complaints, ...wide.complaints], []);
  },

  async "Korean readers get Korean"() {
    const page = await browser.open(`${open}/`, { language: "ko-KR" });
    await page.until("document.querySelectorAll('.node').length >= 8");
    // What is off screen counts as text only once the browser has laid it out.
    for (const part of ["노드", "프로바이더 p1", "전송", "변경 이력", "curl 복사"]) {
      await page.until(`document.body.innerText.includes(${JSON.stringify(part)})`);
    }
    await page.screenshot("korean");
    assert.equal(await page.evaluate("document.documentElement.lang"), "ko");
    const same = `import("/words.js").then(({ both: { english, korean } }) => [[english, korean], [english.todo, korean.todo]]
      .every(([one, other]) => Object.keys(one).join() === Object.keys(other).join()))`;
    assert.ok(await page.evaluate(same), "both languages have the same words");
  },

  async "a token is asked for, refused and accepted"() {
    const page = await browser.open(`${guarded}/`);
    await page.until("!document.getElementById('token-form').hidden");
    await page.screenshot("token");
    await page.evaluate(enter("wrong"));
    await page.until("document.getElementById('token-error').textContent.includes('not accepted')");
    await page.evaluate(enter("open-sesame"));
    await page.until("document.querySelectorAll('.node').length === 1");
    assert.ok(await page.evaluate("document.getElementById('token-form').hidden"));
    assert.deepEqual(page.complaints, []);
  },

  async "an exchanged token is asked for, and what hasn't changed is shown again"() {
    const page = await browser.open(`${guarded}/`);
    await page.until("!document.getElementById('token-form').hidden");
    await page.evaluate(enter("open-sesame"));
    await page.until("document.querySelectorAll('.node').length === 1");
    console.log("rotate");
    await page.until("!document.getElementById('token-form').hidden");
    assert.ok(await page.evaluate("document.getElementById('nodes-section').hidden"));
    await page.evaluate(enter("new-token"));
    await page.until("document.getElementById('token-form').hidden");
    await page.until("!document.getElementById('nodes-section').hidden");
    assert.equal(await page.evaluate("document.querySelectorAll('.node').length"), 1);
  },
};

let failed = 0;
try {
  for (const [name, check] of Object.entries(promises)) {
    try {
      await check();
      console.log(`kept: ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`BROKEN: ${name}\n${error.stack}`);
    }
  }
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
