// For tests: ways in which a hub answers endlessly, or not at all. Each would go on for ever; the client has to hang
// up.
import type { ServerResponse } from "node:http";

interface Asked {
  url: URL;
  /** Files by path, and the address of large ones. */
  hub: { files: Map<string, Buffer>; store: string };
}
type Fault = (response: ServerResponse, asked: Asked) => void;

const CHUNK = Buffer.alloc(1 << 16, " ");

/** Sends a chunk again and again, as fast as it is taken, or one every `everyMs` milliseconds. */
function pour(response: ServerResponse, chunk: Buffer, everyMs = 0): void {
  let next: NodeJS.Timeout | NodeJS.Immediate;
  const send = (): void => {
    const taken = response.write(chunk);
    if (everyMs > 0) next = setTimeout(send, everyMs);
    else if (taken) next = setImmediate(send);
    else response.once("drain", send);
  };
  response.on("close", () =>
    everyMs > 0 ? clearTimeout(next as NodeJS.Timeout) : clearImmediate(next as NodeJS.Immediate),
  );
  send();
}

const JSON_TYPE = { "content-type": "application/json" };
const entry = (path: string): object => ({ type: "file", path, size: 1, oid: "0".repeat(40) });
const page = (response: ServerResponse, next: string): void => {
  response.writeHead(200, { ...JSON_TYPE, link: `<${next}>; rel="next"` });
  response.end(JSON.stringify([entry(`file-${Math.random()}`)]));
};

export const WAYS = {
  /** Accepts the connection, and sends nothing. */
  silent: () => {},
  "silent behind the headers": (response) => response.writeHead(200, JSON_TYPE).flushHeaders(),
  "a byte at a time": (response) => pour(response.writeHead(200, JSON_TYPE), Buffer.from("["), 5),
  endless: (response) => pour(response.writeHead(200, JSON_TYPE), CHUNK),
  "endless behind an error": (response) => pour(response.writeHead(418, JSON_TYPE), CHUNK),
  /** Sends the file, and then more and more. */
  "longer than stated": (response, { url, hub }) => {
    response.writeHead(200);
    response.write(hub.files.get(url.pathname.slice(1)));
    pour(response, CHUNK);
  },
  "half, and then silent": (response, { url, hub }) => {
    const whole = hub.files.get(url.pathname.slice(1)) as Buffer;
    response.writeHead(200).write(whole.subarray(0, whole.length / 2));
  },
  "pages in a circle": (response, { url }) =>
    page(response, `${url.origin}${url.pathname}?cursor=${url.searchParams.get("cursor") === "1" ? 2 : 1}`),
  "ever new pages": (response, { url }) => page(response, `${url.origin}${url.pathname}?cursor=${Math.random()}`),
  "pages elsewhere": (response, { hub }) => page(response, `${hub.store}/page-${Math.random()}`),
  "many files": (response) =>
    response.writeHead(200, JSON_TYPE).end(JSON.stringify(Array.from({ length: 500 }, (_, i) => entry(`f${i}`)))),
  "no files": (response) => response.writeHead(200, JSON_TYPE).end("[null]"),
  "sizes that are none": (response) =>
    response.writeHead(200, JSON_TYPE).end(JSON.stringify([{ ...entry("config.json"), size: "1e999" }])),
  "a rest of four minutes": (response) => response.writeHead(429, { "retry-after": "240" }).end(),
  "a rest of 31 years": (response) => response.writeHead(429, { "retry-after": "1000000000" }).end(),
  "a rest until a day": (response) =>
    response.writeHead(503, { "retry-after": new Date(Date.now() + 1e9).toUTCString() }).end(),
  "to itself": (response, { url }) => response.writeHead(302, { location: url.href }).end(),
  "to another host": (response, { hub }) =>
    response.writeHead(302, { location: `${hub.store}/model.safetensors` }).end(),
} satisfies Record<string, Fault>;

export type Way = keyof typeof WAYS;
