/**
 * Expectations of the conformance suite, without any test library, so that the suite runs under
 * all.
 */
import type { ErrnoCode } from "../lib/errno.ts";
import type { Store } from "./store.ts";

/** A store does not do what every store must. */
export class ConformanceError extends Error {
  override readonly name = "ConformanceError";
}

function isTrue(condition: boolean, message: string): void {
  if (!condition) throw new ConformanceError(message);
}

function equal<T>(actual: T, expected: T, what: string): void {
  if (!Object.is(actual, expected))
    throw new ConformanceError(`${what} is ${String(actual)} and not ${String(expected)}`);
}

function bytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  equal(actual.length, expected.length, `the length of ${what}`);
  for (let at = 0; at < actual.length; at++) {
    if (actual[at] !== expected[at])
      throw new ConformanceError(`${what}: byte ${at} is ${actual[at]} and not ${expected[at]}`);
  }
}

/** Reads `expected.length` bytes at `offsetBytes` and compares them. */
async function part(store: Store, offsetBytes: number, expected: Uint8Array): Promise<void> {
  const into = new Uint8Array(expected.length);
  await store.read(offsetBytes, into);
  bytes(into, expected, `what the store has at ${offsetBytes}`);
}

async function content(store: Store, expected: Uint8Array): Promise<void> {
  equal(store.sizeBytes, expected.length, "sizeBytes");
  await part(store, 0, expected);
}

/** Waits for `call`; what it rejected with, or `undefined` if it resolved. */
async function outcome(call: Promise<unknown>): Promise<{ reason: unknown } | undefined> {
  return call.then(
    () => undefined,
    (reason: unknown) => ({ reason }),
  );
}

/** Makes `call`, which must return a promise that rejects, and returns the reason. */
async function rejection(call: () => Promise<unknown>): Promise<unknown> {
  let promise: Promise<unknown>;
  try {
    promise = call();
  } catch (thrown) {
    throw new ConformanceError("a store rejects, it never throws at once", { cause: thrown });
  }
  const thrown = await outcome(promise);
  if (thrown === undefined) throw new ConformanceError("the call succeeded");
  return thrown.reason;
}

async function failure(code: ErrnoCode, call: () => Promise<unknown>): Promise<void> {
  const thrown = await rejection(call);
  if (thrown instanceof Error && "code" in thrown && thrown.code === code) return;
  throw new ConformanceError(`an error with code ${code} was due`, { cause: thrown });
}

async function reason(expected: unknown, call: () => Promise<unknown>): Promise<void> {
  equal(await rejection(call), expected, "what the aborted call rejects with");
}

/** The expectations, under one name. */
export const StoreExpectations: {
  readonly isTrue: typeof isTrue;
  readonly equal: typeof equal;
  readonly bytes: typeof bytes;
  readonly part: typeof part;
  readonly content: typeof content;
  readonly outcome: typeof outcome;
  readonly failure: typeof failure;
  readonly reason: typeof reason;
} = { isTrue, equal, bytes, part, content, outcome, failure, reason };
