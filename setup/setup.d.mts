// Types of setup.mjs, for `revmoe setup`.
import type { Engine } from "./libtorch.mjs";

/** Does what is missing; returns the engine, ready to load. Throws a SetupError with the reason and the remedy. */
export function setUp(options?: { say?: (line: string) => void; asDefault?: boolean }): Promise<Engine>;
