// The files of the page: those in page/, and the chart library's from its package. The list is made once and fixed: a
// name that is not in it is not a file, whatever dots and slashes it has.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PAGE = fileURLToPath(new URL("../../page/", import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

export interface PageFile {
  type: string;
  read(): Uint8Array<ArrayBuffer>;
}

/** Files by the name in their URL. */
export function pageFiles(): ReadonlyMap<string, PageFile> {
  const own = readdirSync(PAGE).map((name) => [name, join(PAGE, name)] as const);
  const { resolve } = createRequire(import.meta.url);
  const charts = [
    ["uplot.js", resolve("uplot/dist/uPlot.esm.js")],
    ["uplot.css", resolve("uplot/dist/uPlot.min.css")],
  ] as const;
  return new Map(
    [...own, ...charts]
      .filter(([name]) => extname(name) in TYPES)
      .map(([name, path]) => [name, { type: TYPES[extname(name)], read: () => new Uint8Array(readFileSync(path)) }]),
  );
}
