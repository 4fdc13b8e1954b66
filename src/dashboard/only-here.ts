// Who may ask: a browser on this machine that shows our own page. Another site's page can send requests to a server on
// loopback, and read the answers if its own name leads here (DNS rebinding). So Host and Origin must be names of
// loopback, and the browser must not say that the request comes from another site. Nothing can be changed through the
// server: it answers only GET.
import type { MiddlewareHandler } from "hono";

const LOOPBACK = /^(localhost|127\.0\.0\.1)(:\d{1,5})?$/i;
const ORIGIN = /^http:\/\/(localhost|127\.0\.0\.1)(:\d{1,5})?$/i;

export const onlyHere: MiddlewareHandler = async (c, next) => {
  const { method } = c.req;
  if (method !== "GET" && method !== "HEAD") return c.text("Only GET is answered.\n", 405, { Allow: "GET, HEAD" });
  const host = c.req.header("host") ?? "";
  if (!LOOPBACK.test(host)) return c.text("This host name is refused: use 127.0.0.1 or localhost.\n", 403);
  const origin = c.req.header("origin");
  // The page's own requests have the host they ask as their origin.
  if (origin !== undefined && (!ORIGIN.test(origin) || origin.toLowerCase() !== `http://${host}`.toLowerCase()))
    return c.text("This origin is refused.\n", 403);
  const site = c.req.header("sec-fetch-site");
  const isLink = c.req.header("sec-fetch-mode") === "navigate" && c.req.header("sec-fetch-dest") === "document";
  if ((site === "cross-site" || site === "same-site") && !(isLink && c.req.path === "/"))
    return c.text("Requests of other sites are refused.\n", 403);
  return next();
};
