// The operators we use, ATen's and our own (revmoe::), by subject. A row has everything about one: its TypeScript type,
// its schema in libtorch, and its rule for the engine that counts. Results belong to the innermost scope. A trailing
// underscore means in place; the same handle is returned.
export * from "./ops/arithmetic.js";
export * from "./ops/attention.js";
export * from "./ops/delta.js";
export * from "./ops/experts.js";
export * from "./ops/indexing.js";
export * from "./ops/norms.js";
export * from "./ops/losses.js";
export * from "./ops/numbers.js";
export * from "./ops/products.js";
export * from "./ops/random.js";
export * from "./ops/reductions.js";
export * from "./ops/storage.js";
export * from "./ops/streams.js";
export * from "./ops/updates.js";
export * from "./ops/views.js";
export { hasOp, rows } from "./ops/row.js";
