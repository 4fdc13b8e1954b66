// For tests: a hub on the loopback interface with the paths of huggingface.co that a download uses, and with faults on
// demand. Large files (safetensors) are redirected to another port, as the real hub redirects to its storage.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import type { TestContext } from "node:test";

import { type Way, WAYS } from "./testing-hub-faults.js";

export interface TestingHub {
  endpoint: string;
  /** The address of large files. */
  store: string;
  /** Files of org/name by path, for a model or a data set of this name; changing them makes a new commit. */
  files: Map<string, Buffer>;
  commit(): string;
  /** "GET /path" of every request, followed by " bytes=N-" for a range and " token" if one was sent. */
  seen: string[];
  faults: {
    /** Answers the first requests whose path contains `path` with these statuses, one after another. */
    statuses?: { path: string; codes: number[]; errorCode?: string };
    /** Breaks the connection, or leaves it open silently, after this share of the named file's bytes. */
    cut?: { file: string; share: number; times: number; hang?: boolean };
    ignoreRanges?: boolean;
    /** Sends wrong bytes for this file. */
    damaged?: string;
    /** States a wrong size for a file in the list. */
    stated?: { file: string; bytes: number };
    token?: string;
    /** Answers requests whose path contains `path` in one of the ways of testing-hub-faults.ts. */
    odd?: { path: string; way: Way };
  };
  close(): void;
}

const NAME = "org/name";
const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");
const gitSha1 = (bytes: Buffer): string =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
const isLarge = (path: string): boolean => path.endsWith(".safetensors");

/** The files directly in a folder. */
export const filesOf = (folder: string): Map<string, Buffer> =>
  new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));

/** A running hub, closed after the test. */
export async function startHub(t: TestContext, files: Map<string, Buffer>): Promise<TestingHub> {
  const servers = [
    createServer((request, response) => answer(request, response)),
    createServer((q, s) => storage(q, s)),
  ];
  for (const server of servers) await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const [endpoint, store] = servers.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const close = (): void =>
    servers.forEach((server) => {
      server.close();
      server.closeAllConnections();
    });
  t.after(close);
  const commit = (): string =>
    createHash("sha1")
      .update([...files].map(([path, bytes]) => path + sha256(bytes)).join())
      .digest("hex");
  const hub: TestingHub = { endpoint, store, files, commit, seen: [], faults: {}, close };

  function answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "", endpoint);
    const path = decodeURIComponent(url.pathname);
    const { authorization, range } = request.headers;
    hub.seen.push(`${request.method} ${path}${range ? ` ${range}` : ""}${authorization ? " token" : ""}`);
    const { statuses, token } = hub.faults;
    const refuse = (status: number, code = ""): void => {
      response.writeHead(status, { "content-type": "application/json", ...(code ? { "x-error-code": code } : {}) });
      response.end(JSON.stringify({ error: "refused" }));
    };
    const { odd } = hub.faults;
    if (odd && path.includes(odd.path)) return void WAYS[odd.way](response, { url, hub });
    const failing = statuses && path.includes(statuses.path) ? statuses.codes.shift() : undefined;
    const [, revision] = /^\/api\/(?:models|datasets)\/org\/name\/revision\/(.+)$/.exec(path) ?? [];
    const [, file = ""] = /^\/(?:datasets\/)?org\/name\/resolve\/[0-9a-f]{40}\/(.+)$/.exec(path) ?? [];
    const bytes = files.get(file);
    if (failing) refuse(failing, statuses?.errorCode);
    else if (token && authorization !== `Bearer ${token}`) refuse(401);
    else if (revision === "main" || revision === commit()) json({ _id: "1", id: NAME, sha: commit() });
    else if (revision) refuse(404, "RevisionNotFound");
    else if (/^\/api\/(models|datasets)\//.test(path) && path.includes(`/${NAME}/tree/${commit()}`))
      tree(path.split(`${commit()}/`)[1] ?? "", Number(url.searchParams.get("cursor") ?? 0));
    else if (!bytes) refuse(404, "RepoNotFound");
    else if (!isLarge(file)) send(file, bytes, request, response);
    else {
      const linked = { "x-linked-size": bytes.length, "x-linked-etag": sha256(bytes), "x-repo-commit": commit() };
      response.writeHead(302, { location: `${store}/${file}`, ...linked });
      response.end();
    }

    function json(value: unknown, headers: Record<string, string> = {}): void {
      response.writeHead(200, { "content-type": "application/json", ...headers });
      response.end(JSON.stringify(value));
    }
    /** The files of one folder, or of all folders, two entries per page. */
    function tree(folder: string, from: number): void {
      const recursive = url.searchParams.get("recursive") === "true";
      const inside = [...files].filter(([name]) => recursive || dirname(name) === (folder || "."));
      const others = new Set([...files.keys()].map((name) => dirname(name)).filter((name) => name !== "."));
      const entries = inside.map(([name, content]) => {
        const { stated } = hub.faults;
        const size = stated?.file === name ? stated.bytes : content.length;
        return isLarge(name)
          ? {
              type: "file",
              path: name,
              size,
              oid: gitSha1(Buffer.from("pointer")),
              lfs: { oid: sha256(content), size, pointerSize: 130 },
            }
          : { type: "file", path: name, size, oid: gitSha1(content) };
      });
      const next = `<${endpoint}${url.pathname}?recursive=${recursive}&cursor=${from + 2}>; rel="next"`;
      const directories = folder === "" ? ["original", ...others] : [];
      const all = [...directories.map((name) => ({ type: "directory", path: name, size: 0, oid: "0" })), ...entries];
      json(all.slice(from, from + 2), from + 2 < all.length ? { link: next } : {});
    }
  }

  function storage(request: IncomingMessage, response: ServerResponse): void {
    const file = (request.url ?? "").slice(1);
    const { authorization, range } = request.headers;
    hub.seen.push(`GET store/${file}${range ? ` ${range}` : ""}${authorization ? " token" : ""}`);
    const { odd } = hub.faults;
    if (odd && `store/${file}`.includes(odd.path))
      return void WAYS[odd.way](response, { url: new URL(request.url ?? "", store), hub });
    const bytes = files.get(file);
    if (bytes) send(file, bytes, request, response);
    else response.writeHead(404).end();
  }

  function send(file: string, whole: Buffer, request: IncomingMessage, response: ServerResponse): void {
    const { cut, damaged, ignoreRanges } = hub.faults;
    const from = ignoreRanges ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const sent = damaged === file ? Buffer.alloc(whole.length, 7) : whole;
    const headers = { "content-length": whole.length - from, etag: `"${sha256(whole)}"`, "accept-ranges": "bytes" };
    if (from > 0)
      response.writeHead(206, { ...headers, "content-range": `bytes ${from}-${whole.length - 1}/${whole.length}` });
    else response.writeHead(200, headers);
    const stop =
      cut?.file === file && cut.times > 0 ? from + Math.floor((whole.length - from) * cut.share) : whole.length;
    if (!cut || stop === whole.length) return void response.end(sent.subarray(from));
    cut.times--;
    response.write(sent.subarray(from, stop), () => {
      if (!cut.hang) setTimeout(() => request.socket.destroy(), 50);
    });
  }

  return hub;
}
