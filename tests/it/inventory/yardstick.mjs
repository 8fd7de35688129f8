// The same answers from a plain Node server, as a yardstick for the figures: node yardstick.mjs <folder>
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const [list, single] = ["list.json", "single.json"].map((name) => readFileSync(`${process.argv[2]}/${name}`));
const tag = '"yardstick"';

createServer((request, response) => {
  const headers = { "Content-Type": "application/json", "ETag": tag, "Cache-Control": "no-cache" };
  if (request.headers["if-none-match"] === tag) {
    response.writeHead(304, headers).end();
  } else {
    const body = request.url.startsWith("/v1/inventory/node-configs/") ? single : list;
    response.writeHead(200, { ...headers, "Content-Length": body.length }).end(body);
  }
}).listen(18182, "127.0.0.1");
