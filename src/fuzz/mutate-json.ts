// Wrong JSON that is mostly still JSON: values of other types and of absurd size, nesting too deep for recursion, keys
// left out, doubled or named like members of an object. Odd values are texts, because JavaScript values cannot express
// all of them: 1e999, a key that appears twice.
import { mutateBytes } from "./mutate-bytes.js";
import type { Random } from "./random.js";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

const deep = (open: string, close: string, depth: number): string => open.repeat(depth) + close.repeat(depth);

const ODD_TEXTS: readonly string[] = [
  ...[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "0.5",
    "-0.5",
    "1e-320",
    "1e308",
    "1e999",
    "-1e999",
  ],
  ...["255", "65536", "1000000", "10000000", "1000000000", "2147483647", "2147483648", "4294967296", "1099511627776"],
  ...["9007199254740991", "9007199254740993", "18446744073709551616", "1e15", "1e21", "1e300"],
  ...[
    '""',
    '" "',
    '"0"',
    '"-1"',
    '"true"',
    '".."',
    '"../../etc/passwd"',
    '"/dev/zero"',
    '"a\\u0000b"',
    '"\\ud800"',
    '"\\udfff\\ud800"',
  ],
  ...[
    '"\\u001b[2J"',
    '"\\u202e"',
    '"\\ufeff"',
    '"__proto__"',
    '"constructor"',
    '"toString"',
    `"${"x".repeat(300)}"`,
    `"${"y".repeat(100_000)}"`,
  ],
  ...[
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "[{}]",
    '[""]',
    "[1, 2, 3]",
    '{"a": 1, "a": 2}',
    '{"__proto__": {"x": 1}}',
    '{"": null}',
    '{"length": 4294967295}',
  ],
  ...['{"toString": 1}', '{"toJSON": 1, "valueOf": null}', '{"constructor": {"prototype": {}}}'],
  ...[
    deep("[", "]", 50),
    deep("[", "]", 5_000),
    deep("[", "]", 100_000),
    deep('{"a":', "}", 20_000).replace(":}", ":1}"),
  ],
  `[${"0,".repeat(50_000)}0]`,
];
const ODD_KEYS = [
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "length",
  "",
  "\u0000",
  "\ud800",
  "then",
  "k".repeat(5_000),
];

const MARK = "\u0001odd";

/** `seed` is JSON; the result is mostly JSON, too. `hints` are values that the reader knows. */
export function mutateJson(seed: Uint8Array, random: Random, hints: readonly string[] = []): Uint8Array {
  let text = Buffer.from(seed).toString("utf8");
  try {
    text = mutateValue(JSON.parse(text) as Json, random, hints);
  } catch {
    return mutateBytes(seed, random);
  }
  return random.oneIn(8) ? mutateBytes(Buffer.from(text), random) : Buffer.from(text);
}

/** The text of `value` after changes. */
function mutateValue(value: Json, random: Random, hints: readonly string[] = []): string {
  const odd: string[] = [];
  const makeOdd = (): string => {
    odd.push(random.oneIn(3) && hints.length > 0 ? JSON.stringify(random.pick(hints)) : random.pick(ODD_TEXTS));
    return `${MARK}${odd.length - 1}.`;
  };
  const holder: Json = { root: structuredClone(value) };
  for (let left = random.few(); left > 0; left--) changeOne(holder, random, makeOdd);
  return JSON.stringify(holder.root ?? null).replaceAll(
    /"\\u0001odd(\d+)\."/g,
    (_, index: string) => odd[Number(index)],
  );
}

function changeOne(holder: { [key: string]: Json }, random: Random, makeOdd: () => string): void {
  // A walk down from the top that stops anywhere, but rarely at the top itself.
  let parent: { [key: string]: Json } | Json[] = holder;
  let key: string | number = "root";
  for (;;) {
    const here: Json = (parent as Record<string | number, Json>)[key];
    if (typeof here !== "object" || here === null || random.oneIn(parent === holder ? 40 : 4)) break;
    const keys: (string | number)[] = Array.isArray(here) ? [...here.keys()] : Object.keys(here);
    if (keys.length === 0) break;
    parent = here;
    key = random.pick(keys);
  }
  const record = parent as Record<string | number, Json>;
  const here = record[key];
  switch (random.below(8)) {
    case 0:
      if (Array.isArray(parent)) parent.splice(Number(key), 1);
      else delete record[key];
      return;
    case 1:
      // Defined as a property, because assigning to __proto__ would set the prototype.
      if (!Array.isArray(parent))
        Object.defineProperty(parent, random.pick(ODD_KEYS), {
          value: makeOdd(),
          enumerable: true,
          configurable: true,
          writable: true,
        });
      else parent.push(structuredClone(here));
      return;
    case 2:
      if (typeof here === "number")
        record[key] = random.pick([here + 1, here - 1, -here, here * 1000, here / 2, here * 1e9, here + 0.5]);
      else if (typeof here === "string")
        record[key] = random.pick([here + here, here.slice(1), here.toUpperCase(), `${here}\u0000`, ` ${here}\n`]);
      else record[key] = [here];
      return;
    case 3: {
      const others = Object.values(parent);
      record[key] = structuredClone(random.pick(others as Json[]));
      return;
    }
    default:
      record[key] = makeOdd();
  }
}
