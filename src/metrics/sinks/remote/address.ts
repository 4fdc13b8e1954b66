// Reads a server's address from the environment: checks it, and separates user name, password and keys that it may
// contain.
import { UserError } from "../../../errors.js";

export interface Address {
  url: string;
  /** From `scheme://user:password@host`; empty without it. */
  user: string;
  password: string;
  /** The part after the question mark. */
  query: URLSearchParams;
}

/** `example` shows what is expected. Errors: UserError, which does not show the value, since it may hold a key. */
export function readAddress(sink: string, variable: string, value: string | undefined, example: string): Address {
  const expected = `(expected http:// or https://, as ${example})`;
  if (!value)
    throw new UserError(`report_to: ${sink} needs the address of its server in ${variable} ${expected}. Set it.`);
  const url = URL.canParse(value) ? new URL(value) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new UserError(
      `report_to: ${variable} is no address that ${sink} can be reached at ${expected}. Set another.`,
    );
  const decoded = (text: string): string => {
    try {
      return decodeURIComponent(text);
    } catch {
      throw new UserError(
        `report_to: ${variable}: a % in its name or password begins no escape (expected %25 for a % itself). Mend it.`,
      );
    }
  };
  return {
    url: `${url.origin}${url.pathname}`.replace(/\/+$/, ""),
    user: decoded(url.username),
    password: decoded(url.password),
    query: url.searchParams,
  };
}

/** The value of the header `authorization`. */
export const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

/**
 * Errors: UserError if a key has a character that cannot be sent, so that every request would fail; it does not show
 * the key.
 */
export function checkHeaders(sink: string, headers: Readonly<Record<string, string>>): void {
  try {
    new Headers(headers);
  } catch {
    throw new UserError(
      `report_to: a key for ${sink} has a line break or a character that no header can hold (expected letters, digits and signs). Copy it again.`,
    );
  }
}
