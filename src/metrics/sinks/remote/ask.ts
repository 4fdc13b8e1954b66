// One request to a server that takes a run's numbers: JSON out, JSON in, with limits of time and size. Errors are
// described in words without keys. Limits: no proxy, as Node's fetch has none; redirects are refused, since a key must
// go only to the given address.
import { cutText } from "../../../format.js";
import { type Ask, Refused, type Target, Unanswered } from "./service.js";

/** Most bytes of an answer; answers are a few lines. */
const LARGEST_ANSWER = 2 ** 20;
const LONGEST_WORDS = 300;

/** `requestMs`: from the first byte sent to the last byte received. */
export function asking({ url, headers, secrets }: Target, requestMs: number): Ask {
  const clean = (words: string): string =>
    cutText(
      secrets
        .reduce((text, secret) => text.replaceAll(secret, "***"), words)
        .replaceAll(/\s+/g, " ")
        .replace(/[. ]+$/, ""),
      LONGEST_WORDS,
    );
  return async (path, body, { method } = {}) => {
    let status: number;
    let text: string;
    try {
      const response = await fetch(url + path, {
        method: method ?? "POST",
        headers: { ...headers, "content-type": "application/json" },
        ...(method === "GET" ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
        redirect: "manual",
        signal: AbortSignal.timeout(requestMs),
      });
      status = response.status;
      if (status >= 300 && status < 400)
        throw new Refused(`redirects to ${clean(response.headers.get("location") ?? "nowhere")}`, status, "");
      text = await bounded(response);
    } catch (failure) {
      if (failure instanceof Refused) throw failure;
      throw new Unanswered(clean(reasonOf(failure, requestMs)));
    }
    const answer = parsed(text);
    if (status < 300) {
      if (answer === undefined) throw new Refused(`answers with what is no JSON: ${clean(text)}`, status, "");
      return answer;
    }
    const said = (messageIn(answer) ?? text).trim();
    const words = `answers with status ${status}${said === "" || said === "{}" ? "" : `: ${clean(said)}`}`;
    if (status === 408 || status === 429 || status >= 500) throw new Unanswered(words);
    throw new Refused(words, status, String(answer?.error_code ?? ""));
  };
}

async function bounded({ body }: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body ?? []) {
    bytes += (chunk as Uint8Array).length;
    if (bytes > LARGEST_ANSWER) throw new Error("its answer has no end");
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks).toString();
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return text.trim() === "" ? {} : undefined;
  }
}

/** The server's message: MLflow has `message`, trackio `error`, W&B `errors`. */
function messageIn(answer: Record<string, unknown> | undefined): string | undefined {
  const { message, error, errors } = answer ?? {};
  const found = message ?? error ?? (errors as { message?: unknown }[] | undefined)?.[0]?.message;
  return typeof found === "string" ? found : undefined;
}

/** The system's own message beneath that of fetch. */
function reasonOf(failure: unknown, requestMs: number): string {
  const { name, message, cause } = failure as Error;
  if (name === "TimeoutError") return `no answer in ${requestMs / 1000} s`;
  if (!(cause instanceof Error)) return message;
  return cause.message || ((cause as NodeJS.ErrnoException).code ?? message);
}
